"""The job spec. A ``ConfigError`` names the key, the value and what is allowed."""
