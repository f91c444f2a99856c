"""The loop of one worker."""
