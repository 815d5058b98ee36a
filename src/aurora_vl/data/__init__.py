"""Records, media decoding, data sets, readers of annotation layouts, and generated data."""
