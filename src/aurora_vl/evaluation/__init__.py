"""Scores of retrieval and answering, and the metrics as pure functions."""
