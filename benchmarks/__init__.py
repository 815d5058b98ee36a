"""Benchmarks of speed and memory, run from a checkout; not part of the wheel."""
