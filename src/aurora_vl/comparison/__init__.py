"""comparison of Aurora."""
