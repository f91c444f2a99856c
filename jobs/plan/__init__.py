"""What a run would do, cost and write, estimated without running it."""
