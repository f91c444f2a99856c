"""The job spec. What is wrong in it is a ``ConfigError`` with the key, the value and what is allowed."""
