"""Rows in succession on which the engine has failed: the worker may be to blame, or the type of the weights.

A worker does not commit segments with rows of its present streak until it has done a row. If the streak grows too long,
it ends without committing them, and others run them. Why, and what ends the run: docs/durability.md.
"""

import threading
from dataclasses import dataclass, field

from manifests.failure import RowFailure
from pipeline.errors import TooManyFailures, WorkerUnfit
from pipeline.event import Event, SegmentCommitted, SegmentHeldBack, SegmentRepeated, Streak, WorkerProgress
from pipeline.lone_row import QUARANTINED
from pipeline.open_segment import OpenSegment
from pipeline.outcome import Outcome, RowDone

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

    def take(self, segment: OpenSegment, outcome: Outcome, *, is_adopted: bool) -> list[OpenSegment]:
        """Count an outcome in; returns the segments that need wait no longer.

        Args:
            segment: Of the row.
            outcome: Of the row.
            is_adopted: Whether another worker has made it.

        Raises:
            WorkerUnfit: The streak is too long. Nothing that was held back is released any more.
        """
        if isinstance(outcome, RowFailure):
            with self._lock:
                self._count(segment, outcome)
            return []
        assert isinstance(outcome, RowDone)
        with self._lock:
            if is_adopted or not self._is_ended_by(outcome):
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

    def _is_ended_by(self, done: RowDone) -> bool:
        """A row that asked the codec alone says nothing about the transformer."""
        return done.steps > 0 or (self.streak is not None and self.streak.cause == _CODEC_CAUSE)

    def _freed(self) -> list[OpenSegment]:
        if self._is_unfit:
            return []
        freed, self._held = self._held, []
        self._marked.clear()
        return freed


@dataclass(slots=True)
class StreakWatch:
    """What the driver knows of the streaks of its workers. Not safe to share by threads.

    Attributes:
        max_rows: The streak that is too long; None: there is none.
    """

    max_rows: int | None = None
    _held_back: dict[str, set[str]] = field(default_factory=dict)
    _streaks: dict[str, Streak] = field(default_factory=dict)
    _retired: set[str] = field(default_factory=set)
    _num_deaths: dict[str, int] = field(default_factory=dict)  # by the engine, since a row was done in the same place
    _has_done: bool = False
    _num_committed: int = 0  # rows that are committed as failures of the engine

    def take(self, name: str, event: Event) -> None:
        """Count an event in."""
        match event:
            case SegmentHeldBack(segment_name):
                self._held_back.setdefault(name, set()).add(segment_name)
            case SegmentCommitted(segment_name) | SegmentRepeated(segment_name):
                for held in self._held_back.values():
                    held.discard(segment_name)
                if isinstance(event, SegmentCommitted):
                    self._has_done = self._has_done or event.totals.num_done > 0
                    self._num_committed += dict(event.failures).get("engine", 0)
            case WorkerProgress():
                self._streaks.pop(name, None)
                if event.failing is not None:
                    self._streaks[name] = event.failing
                if event.num_done:
                    self._has_done = True
                    self._num_deaths.pop(name, None)
            case _:
                pass

    def forget(self, name: str, successor: str | None = None) -> None:
        """A worker is gone; another may have its place."""
        self._held_back.pop(name, None)
        if name not in self._retired:  # whose rows have failed, whoever runs them now
            self._streaks.pop(name, None)
        num_deaths = self._num_deaths.pop(name, 0)
        if successor is not None and num_deaths:
            self._num_deaths[successor] = num_deaths

    def num_held_back(self, name: str) -> int:
        """Segments that a worker has complete and not committed."""
        return len(self._held_back.get(name, ()))

    def holding_back(self) -> list[str]:
        """Workers that hold something back."""
        return [name for name, held in self._held_back.items() if held]

    def released(self, name: str) -> None:
        """A worker was told to commit what it holds back."""
        self._held_back.pop(name, None)

    def is_given_up_at_death(self, name: str) -> bool:
        """Whether a worker's place stays empty, now that its engine has failed so that its process had to end."""
        self._num_deaths[name] = self._num_deaths.get(name, 0) + 1
        return self.max_rows is not None and self._num_deaths[name] >= self.max_rows

    def retire(self, name: str) -> None:
        """A worker is given up, for its streak."""
        self._retired.add(name)

    def check(self, num_workers: int) -> None:
        """End a run whose first rows all fail alike.

        Of several workers no one counts for more than half: a bad one fails at its first steps, before any other has
        done a row.

        Raises:
            TooManyFailures: So many have, and none is done.
        """
        if self.max_rows is None or self._has_done or not self._streaks:
            return
        most = self.max_rows if num_workers + len(self._retired) == 1 else (self.max_rows + 1) // 2
        num_rows, num_counted, causes = 0, 0, set[str]()
        for streak in self._streaks.values():
            num_rows += streak.num_rows
            num_counted += min(streak.num_rows, most)
            causes.add(streak.cause)
        if num_counted >= self.max_rows and len(causes) == 1:
            raise self.too_many(f"the first {num_rows} rows of this start have all failed alike: {streak.message}")

    def too_many(self, words: str) -> TooManyFailures:
        """What ends the run, and what becomes of the rows."""
        earlier = ""
        if self._num_committed:
            earlier = (
                f"; of rows before them {self._num_committed} are committed as failures of the engine, which "
                "dimoo-batch retry --class engine tries again"
            )
        return TooManyFailures(
            f"{words}; none of these rows is committed, a start that works runs them{earlier} "
            f"(failures.max_engine_streak, {self.max_rows})"
        )
