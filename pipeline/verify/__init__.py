"""The independent check of an output."""
