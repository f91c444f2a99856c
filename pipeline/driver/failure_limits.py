"""When a run is given up for its failures: too many rows have failed, or an engine fails on row after row.

A worker does not commit segments with rows of its present streak until it has done a row. If the streak grows too long,
it ends without committing them, and others run them. Why, and what ends the run: docs/durability.md. Importable without
torch.
"""

import re
from dataclasses import dataclass, field

from dimoo_core.errors import ConfigError
from pipeline.errors import TooManyFailures
from pipeline.protocol.messages import (
    Event,
    SegmentCommitted,
    SegmentHeldBack,
    SegmentRepeated,
    Streak,
    WorkerDied,
    WorkerDrained,
    WorkerProgress,
)


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
        """A worker was asked to commit what it holds back."""
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
            raise self.too_many(f"the first {num_rows} rows of this start all failed alike: {streak.message}")

    def too_many(self, words: str) -> TooManyFailures:
        """The error that ends the run, with what happens to the rows."""
        earlier = ""
        if self._num_committed:
            earlier = f"; {self._num_committed} earlier rows are committed: dimoo-batch retry --class engine"
        return TooManyFailures(
            f"{words}; none of these rows is committed, the next start runs them again{earlier} "
            f"(failures.max_engine_streak, {self.max_rows})"
        )


MIN_SAMPLE_ROWS = 100
"""A share is not looked at before so many rows have a result, or all there are."""

_LIMIT = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<percent>%?)")


@dataclass(slots=True)
class FailureLimit:
    """Counts the rows of one start; those that earlier starts have committed are neither counted nor held against it.

    Attributes:
        text: The limit as it was given, ``N`` or ``P%``.
        is_share: Whether ``most`` is a percentage of the rows with a result.
        most: As many may fail.
    """

    text: str
    is_share: bool
    most: float
    _of_worker: dict[str, tuple[int, int]] = field(default_factory=dict)
    _gone: tuple[int, int] = (0, 0)
    _committed: dict[str, tuple[int, int]] = field(default_factory=dict)
    _latest: str = ""  # reason of rows that may be held back, so that nobody finds it in the output

    @classmethod
    def of(cls, max_failures: int | str | None) -> "FailureLimit | None":
        """``100`` rows or ``5%`` of the rows; None: there is no limit."""
        if max_failures is None:
            return None
        text = str(max_failures)
        match = _LIMIT.fullmatch(text.strip())
        is_share = match is not None and match["percent"] == "%"
        if match is None or (is_share and float(match["number"]) > 100) or (not is_share and "." in match["number"]):
            raise ConfigError(f"failures.max_failures must be a number of rows or a percentage (100, 5%), got {text!r}")
        return cls(match[0], is_share, float(match["number"]))

    def take(self, name: str, event: Event) -> None:
        """Count an event in; what a worker that died or drained had not committed does not count."""
        match event:
            case WorkerProgress():
                self._of_worker[name] = (event.num_done, event.num_failed)
                self._latest = event.failing.message if event.failing is not None else self._latest
            case SegmentCommitted(_, totals):
                done, failed = self._committed.get(name, (0, 0))
                self._committed[name] = (done + totals.num_done, failed + totals.num_failed)
            case WorkerDied() | WorkerDrained():
                self._of_worker.pop(name, None)
                done, failed = self._committed.pop(name, (0, 0))
                self._gone = (self._gone[0] + done, self._gone[1] + failed)
            case _:
                pass

    def check(self, num_rows: int) -> None:
        """End a hopeless run.

        Args:
            num_rows: Rows of this start, of which a small number is a small sample.
        """
        num_done, num_failed = self._gone
        for name in {*self._of_worker, *self._committed}:
            seen, committed = self._of_worker.get(name, (0, 0)), self._committed.get(name, (0, 0))
            num_done += max(seen[0], committed[0])
            num_failed += max(seen[1], committed[1])
        num_completed = num_done + num_failed
        if self.is_share:
            if num_completed < min(MIN_SAMPLE_ROWS, num_rows):
                return
            is_hopeless = 100 * num_failed > self.most * num_completed
        else:
            is_hopeless = num_failed > self.most
        if is_hopeless:
            latest = f"; the latest: {self._latest}" if self._latest else ""
            raise TooManyFailures(
                f"{num_failed} of {num_completed} rows failed, over the limit of --max-failures {self.text}: fix the "
                f"causes listed in _failures/, or raise the limit{latest}"
            )
