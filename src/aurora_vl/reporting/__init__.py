"""Tables, charts and HTML that the command line, demo, comparison and benchmarks share."""
