"""training of Aurora."""
