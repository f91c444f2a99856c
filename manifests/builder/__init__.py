"""Makes manifests from what people have: tables, lists, images, archives, prompt sets of benchmarks."""
