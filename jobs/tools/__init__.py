"""Status, verify, doctor, replay, bench and the lists of tasks and models."""
