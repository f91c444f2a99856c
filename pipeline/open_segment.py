"""A segment whose rows are being worked on: collects their outcomes until the last one is there."""

import threading

import pyarrow as pa

from pipeline.lease import Lease
from pipeline.outcome import Outcome


class OpenSegment:
    """Outcomes of one leased segment. Threads may add to it at the same time."""

    def __init__(self, lease: Lease, rows: pa.Table) -> None:
        self.lease = lease
        self.segment = lease.segment
        self.rows = rows
        self._outcomes: dict[int, Outcome] = {}
        self._lock = threading.Condition()

    def add(self, outcome: Outcome) -> bool:
        """Record one row's outcome; True for the one that completes the segment.

        Raises:
            ValueError: If the row has an outcome already.
        """
        with self._lock:
            if outcome.row in self._outcomes:
                raise ValueError(f"row {outcome.row} has two outcomes")
            self._outcomes[outcome.row] = outcome
            self._lock.notify_all()
            return len(self._outcomes) == self.segment.num_rows

    def wait_for(self, row: int, timeout_s: float) -> bool:
        """Wait a while for a row's outcome; whether it is there."""
        with self._lock:
            return self._lock.wait_for(lambda: row in self._outcomes, timeout_s)

    def outcomes(self) -> list[Outcome]:
        """What was recorded so far, in row order."""
        with self._lock:
            return [self._outcomes[row] for row in sorted(self._outcomes)]
