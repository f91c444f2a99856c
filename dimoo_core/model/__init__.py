"""The transformer and its kernels."""
