"""Small runs under faults that a seed draws, started again until they end, then checked from the store alone."""
