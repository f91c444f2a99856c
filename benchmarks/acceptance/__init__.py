"""Acceptance of a checkpoint on a machine: the official implementation and this engine, equal weights, equal noise."""
