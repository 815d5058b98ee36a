"""Comparing methods on one task: trials, fingerprints, intervals, results and plots."""
