"""One row to requests, results to one row."""
