"""The name that is this distribution's own: where its command starts."""
