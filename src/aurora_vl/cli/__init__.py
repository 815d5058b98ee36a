"""cli of Aurora."""
