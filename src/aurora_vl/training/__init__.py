"""Training runs from recipe to metrics: build, train, resume, write the results."""
