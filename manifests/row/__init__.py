"""One record of a manifest, parsed and checked."""
