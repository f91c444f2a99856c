"""Prompts and images to token sequences."""
