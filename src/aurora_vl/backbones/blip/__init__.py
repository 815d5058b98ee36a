"""BLIP: its model in one readable file, its loading, its checkpoints and their conversion."""
