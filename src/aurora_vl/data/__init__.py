"""data of Aurora."""
