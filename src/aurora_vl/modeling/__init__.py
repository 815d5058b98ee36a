"""modeling of Aurora."""
