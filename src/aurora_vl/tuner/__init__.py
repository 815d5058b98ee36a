"""tuner of Aurora."""
