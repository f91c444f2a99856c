"""One record of a manifest, parsed and checked. A wrong cell is a ``ManifestRowError`` that names it."""
