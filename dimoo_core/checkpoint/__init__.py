"""Files on disk to a loaded model."""
