"""Leases, worker pools and the watchdog."""
