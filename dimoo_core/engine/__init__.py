"""Batching, scheduling and caching over steps."""
