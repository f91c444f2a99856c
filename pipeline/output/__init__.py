"""Everything that a run keeps in its output."""
