"""One start of a run or a retry. What does not go with the run at the output is a ``ConfigError`` with the fix."""
