"""One start of a run or a retry."""
