"""Measurements of the engine: exact operation counts, speed on one device, and what batch invariance costs."""
