"""`aurora demo`: generated data, scores before and after tuning, and the report."""
