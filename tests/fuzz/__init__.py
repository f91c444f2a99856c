"""Real manifests and image files, mutated by a seed and read by the product's own readers."""
