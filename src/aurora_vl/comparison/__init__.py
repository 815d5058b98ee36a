"""Comparing methods: statistics, tables, pictures and the report page."""
