"""A segment whose rows are being worked on: collects their outcomes until the last one is there."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from manifests.errors import RowFailure
from pipeline.output.parts import PartName
from pipeline.output.results import Outcome, own_columns
from pipeline.protocol.messages import Lease


class OpenSegment:
    """Outcomes of one leased segment. Threads may add to it at the same time.

    Args:
        lease: Of the segment.
        rows: All its rows, as read from the manifest.
        failed: Where a committed segment is tried again, the failures of its last part.
    """

    def __init__(self, lease: Lease, rows: pa.Table, failed: Sequence[RowFailure] = ()) -> None:
        self.lease = lease
        self.segment = segment = lease.segment
        self.rows = rows
        self._failed = {failure.row: failure for failure in failed}
        self.expected_rows: Sequence[int] = range(segment.first_row, segment.first_row + segment.num_rows)
        self._outcomes: dict[int, Outcome] = {}
        if lease.retry is not None:
            self.expected_rows = sorted(self._failed)
            classes = lease.retry.classes
            self._outcomes = {row: each for row, each in self._failed.items() if each.failure_class not in classes}
        self.num_kept = len(self._outcomes)
        """Failures that stay as they are, since nobody has asked for their rows."""
        self._wanted = {*self.expected_rows} - {*self._outcomes}
        self._lock = threading.Condition()

    @property
    def part(self) -> PartName:
        """The part that is going to be committed."""
        retry = self.lease.retry
        return PartName(self.segment.name, retry.after + 1 if retry is not None else 0)

    def wants(self, row: int) -> bool:
        """Whether a row is to be run."""
        return row in self._wanted

    @property
    def is_complete(self) -> bool:
        """Whether every row has its outcome."""
        with self._lock:
            return len(self._outcomes) == len(self.expected_rows)

    def add(self, outcome: Outcome) -> bool:
        """Record one row's outcome, a failure with the row's own columns; True for the one that completes the segment.

        Raises:
            ValueError: If the row has an outcome already.
        """
        if isinstance(outcome, RowFailure):
            earlier = self._failed.get(outcome.row)
            attempts = outcome.attempts + (earlier.attempts if earlier is not None else 0)
            columns = own_columns(self.rows, outcome.row - self.segment.first_row)
            outcome = replace(outcome, attempts=attempts, columns=columns)
        with self._lock:
            if outcome.row in self._outcomes:
                raise ValueError(f"row {outcome.row} has two outcomes")
            self._outcomes[outcome.row] = outcome
            self._lock.notify_all()
            return len(self._outcomes) == len(self.expected_rows)

    def wait_for(self, row: int, timeout_s: float) -> bool:
        """Wait a while for a row's outcome; whether it is there."""
        with self._lock:
            return self._lock.wait_for(lambda: row in self._outcomes, timeout_s)

    def outcomes(self) -> list[Outcome]:
        """What was recorded so far, in row order."""
        with self._lock:
            return [self._outcomes[row] for row in sorted(self._outcomes)]
