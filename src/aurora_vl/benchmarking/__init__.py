"""Measuring speed and memory: our forms of a job and their opponents, side by side in one run."""
