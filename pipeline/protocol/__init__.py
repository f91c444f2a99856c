"""What driver and workers exchange: settings, events, shutdown requests."""
