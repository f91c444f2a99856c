"""Rows in succession on which the engine has failed: the worker may be to blame, or the type of the weights.

A worker does not commit segments with rows of its present streak until it has done a row. If the streak grows too long,
it ends without committing them, and others run them. Why, and what ends the run: docs/durability.md.
"""

from dataclasses import dataclass, field

from pipeline.errors import TooManyFailures
from pipeline.protocol.messages import Event, SegmentCommitted, SegmentHeldBack, SegmentRepeated, Streak, WorkerProgress


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
