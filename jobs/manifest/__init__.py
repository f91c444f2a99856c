"""Building, checking and showing manifests."""
