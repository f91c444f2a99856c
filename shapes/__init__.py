"""A small procedural world of coloured pieces on boards of tiles, and how the embedded model learns it."""
