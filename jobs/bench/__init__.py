"""A quick measurement of this machine with one model: what a run would reach, preset by preset and size by size."""
