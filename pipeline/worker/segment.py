"""A segment whose rows are being worked on: collects their row results until the last one is there."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from manifests.errors import RowFailure
from pipeline.output.parts import PartName
from pipeline.output.results import RowResult, extra_columns
from pipeline.protocol.messages import Lease


class OpenSegment:
    """Row results of one leased segment. Threads may add to it at the same time.

    Args:
        failed: Where a committed segment is tried again, the failures of its last part.
    """

    def __init__(self, lease: Lease, rows: pa.Table, failed: Sequence[RowFailure] = ()) -> None:
        self.lease = lease
        self.segment = segment = lease.segment
        self.rows = rows
        self._failed = {failure.row: failure for failure in failed}
        self.expected_rows: Sequence[int] = range(segment.first_row, segment.first_row + segment.num_rows)
        self._row_results: dict[int, RowResult] = {}
        if lease.retry is not None:
            self.expected_rows = sorted(self._failed)
            classes = lease.retry.classes
            self._row_results = {row: each for row, each in self._failed.items() if each.failure_class not in classes}
        self.num_kept = len(self._row_results)
        """Failures that stay as they are, since nobody has asked for their rows."""
        self._wanted = {*self.expected_rows} - {*self._row_results}
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
        """Whether every row has a result."""
        with self._lock:
            return len(self._row_results) == len(self.expected_rows)

    def add(self, row_result: RowResult) -> bool:
        """Record a row's result, a failure with its extra columns; True for the one that completes the segment."""
        if isinstance(row_result, RowFailure):
            earlier = self._failed.get(row_result.row)
            attempts = row_result.attempts + (earlier.attempts if earlier is not None else 0)
            columns = extra_columns(self.rows, row_result.row - self.segment.first_row)
            row_result = replace(row_result, attempts=attempts, columns=columns)
        with self._lock:
            if row_result.row in self._row_results:
                raise ValueError(f"row {row_result.row} has two outcomes")
            self._row_results[row_result.row] = row_result
            self._lock.notify_all()
            return len(self._row_results) == len(self.expected_rows)

    def wait_for(self, row: int, timeout_s: float) -> bool:
        """Wait a while for a row's result; whether it is there."""
        with self._lock:
            return self._lock.wait_for(lambda: row in self._row_results, timeout_s)

    def row_results(self) -> list[RowResult]:
        """What was recorded so far, in row order."""
        with self._lock:
            return [self._row_results[row] for row in sorted(self._row_results)]
