"""The job spec."""
