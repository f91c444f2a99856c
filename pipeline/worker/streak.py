"""Rows in succession on which the engine of one worker has failed, and the segments that wait for their end."""

import threading

from manifests.errors import RowFailure
from pipeline.errors import WorkerUnfit
from pipeline.output.failures import QUARANTINED
from pipeline.output.results import RowResult, RowSuccess
from pipeline.protocol.messages import Streak
from pipeline.worker.segment import OpenSegment

MAX_UNFIT_WORKERS = 2
"""After so many workers have ended with the same segment, its failures are taken to be its own."""


_CODEC_CAUSE = "CodecNotFinite"


class StreakKeeper:
    """The streak of one worker, and the segments that wait for its end. Threads may share it.

    Args:
        max_rows: The streak that is too long; None: there is none, and nothing is held back.

    Attributes:
        streak: The present one, None after a row that was done.
        num_held: Complete segments that are held back.
    """

    def __init__(self, max_rows: int | None) -> None:
        self._max_rows = max_rows
        self._marked: dict[int, OpenSegment] = {}  # with rows of the streak, by identity
        self._held: list[OpenSegment] = []
        self._lock = threading.Lock()
        self._is_unfit = False
        self.streak: Streak | None = None

    @property
    def num_held(self) -> int:
        """Complete segments that are not committed."""
        with self._lock:
            return len(self._held)

    def take(self, segment: OpenSegment, row_result: RowResult, *, is_reused: bool) -> list[OpenSegment]:
        """Count an outcome in; returns the segments that need wait no longer.

        Args:
            segment: Of the row.
            outcome: Of the row.
            is_adopted: Whether another worker has made it.

        Raises:
            WorkerUnfit: The streak is too long. Nothing that was held back is released any more.
        """
        if isinstance(row_result, RowFailure):
            with self._lock:
                self._count(segment, row_result)
            return []
        assert isinstance(row_result, RowSuccess)
        with self._lock:
            if is_reused or not self._is_ended_by(row_result):
                return []
            self.streak = None
            return self._freed()

    def holds_back(self, segment: OpenSegment) -> bool:
        """Whether a complete segment has to wait, and is kept for that."""
        with self._lock:
            if id(segment) not in self._marked:
                return False
            self._held.append(segment)
            return True

    def release(self) -> list[OpenSegment]:
        """What is held back, as there are no more rows to tell whose fault it is; the streak goes on."""
        with self._lock:
            return self._freed()

    def _count(self, segment: OpenSegment, failure: RowFailure) -> None:
        is_ours = failure.failure_class == "engine" and failure.error_type != QUARANTINED
        if self._max_rows is None or not is_ours or segment.lease.num_unfit >= MAX_UNFIT_WORKERS:
            return
        num_rows = 1 + (self.streak.num_rows if self.streak is not None else 0)
        self.streak = Streak(num_rows, failure.error_type, failure.message)
        self._marked[id(segment)] = segment
        if num_rows >= self._max_rows and not self._is_unfit:
            self._is_unfit = True
            names = tuple(each.segment.name for each in self._marked.values())
            words = f"the engine has failed on {num_rows} rows in succession, the last of them {failure.id!r}"
            raise WorkerUnfit(f"{words}: {failure.message}", names)

    def _is_ended_by(self, done: RowSuccess) -> bool:
        """A row that asked the codec alone says nothing about the transformer."""
        return done.steps > 0 or (self.streak is not None and self.streak.cause == _CODEC_CAUSE)

    def _freed(self) -> list[OpenSegment]:
        if self._is_unfit:
            return []
        freed, self._held = self._held, []
        self._marked.clear()
        return freed
