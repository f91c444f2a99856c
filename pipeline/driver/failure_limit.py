"""When so many rows have failed that a run is not worth going on with. Importable without torch."""

import re
from dataclasses import dataclass, field

from dimoo_core.errors import ConfigError
from pipeline.errors import TooManyFailures
from pipeline.protocol.messages import Event, SegmentCommitted, WorkerDied, WorkerDrained, WorkerProgress

MIN_SAMPLE_ROWS = 100
"""A share is not looked at before so many rows have an outcome, or all there are."""

_LIMIT = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<percent>%?)")


@dataclass(slots=True)
class FailureLimit:
    """Counts the rows of one start; those that earlier starts have committed are neither counted nor held against it.

    Attributes:
        text: The limit as it was given, ``N`` or ``P%``.
        is_share: Whether ``most`` is a percentage of the rows with an outcome.
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
        """``100`` rows or ``5%`` of the rows; None: there is no limit.

        Raises:
            ConfigError: It is none of these.
        """
        if max_failures is None:
            return None
        text = str(max_failures)
        match = _LIMIT.fullmatch(text.strip())
        is_share = match is not None and match["percent"] == "%"
        if match is None or (is_share and float(match["number"]) > 100) or (not is_share and "." in match["number"]):
            raise ConfigError(f"max_failures must be a number of rows or a percentage (100, 5%), got {text!r}")
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

        Raises:
            TooManyFailures: More rows have failed than may.
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
                f"{num_failed} of {num_completed} rows have failed, more than --max-failures {self.text} allows: look "
                f"at their reasons in _failures/ and fix them, or allow more{latest}"
            )
