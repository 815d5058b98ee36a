"""world of Aurora."""
