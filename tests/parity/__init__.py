"""Recorded results of the reference implementation, replayed through this project's own code."""
