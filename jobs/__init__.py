"""What a person runs: the command line, the job spec, progress and summary."""
