"""evaluation of Aurora."""
