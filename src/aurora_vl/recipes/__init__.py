"""Recipes: the sections of the YAML file, its defaults, and the smoke form that runs in seconds."""
