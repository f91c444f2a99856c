"""What a run would do, cost and write, told without running it."""
