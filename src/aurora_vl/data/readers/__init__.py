"""readers of Aurora."""
