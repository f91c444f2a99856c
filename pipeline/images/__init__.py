"""Input images, fetched and decoded."""
