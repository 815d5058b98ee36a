"""tasks of Aurora."""
