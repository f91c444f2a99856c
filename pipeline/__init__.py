"""What runs the work: workers, coordinator, fetching, storing, committing."""
