"""Pixels to VQ codes and back."""
