"""What one step does for one request."""
