"""Parquet files, shards and segments."""
