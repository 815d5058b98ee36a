"""A run of seconds: a tiny backbone's folder, a handful of JPEGs, a recipe over both."""

from __future__ import annotations

from small_runs import backbone, data, make_recipe

__all__ = ["backbone", "data", "make_recipe"]
