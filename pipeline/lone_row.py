"""Rows of a suspect segment, run one at a time: the one that is alone with a dying worker is the one that kills."""

from dataclasses import replace

from manifests.failure import RowFailure
from manifests.row import Row
from pipeline.event import Lease
from pipeline.failure_copies import QUARANTINED
from pipeline.failure_policy import FailurePolicy
from pipeline.raw_row import RawRow
from pipeline.suspect import SuspectRecord


class LoneRows:
    """Decides, row by row, whether a suspect segment's row is run once more. Used by the feeder thread."""

    def __init__(self, record: SuspectRecord, policy: FailurePolicy) -> None:
        self._record = record
        self._policy = policy

    def admit(self, lease: Lease, row: Row | RawRow) -> Row | RawRow | RowFailure:
        """The row, after the store knows that it is the next to be run; or its failure, if too many workers died.

        Raises:
            StoreError: The store cannot be told.
        """
        suspicion = lease.suspicion
        assert suspicion is not None
        failure_class = suspicion.failure_class
        if suspicion.is_convicted(row.index, self._policy.max_tries(failure_class)):
            times = 1 + suspicion.deaths[row.index]
            message = f"{times} workers died while they ran this row, the last one with no other: {suspicion.reason}"
            return RowFailure(row.index, row.id, "generate", QUARANTINED, message, failure_class, times)
        self._record.put(lease.segment.name, replace(suspicion, running=row.index))
        return row
