"""Bytes by key, on disk and S3."""
