"""Live progress: a bar on a terminal, plain lines elsewhere; always on standard error."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from pipeline.event import Event, SegmentCommitted, SegmentRepeated, WorkerDied, WorkerProgress, WorkerReady

_LINE_INTERVAL_S = 10.0
_BAR_INTERVAL_S = 0.1  # a thousand workers speak far more often than anybody looks


class ProgressState:
    """Counts that a display shows, kept from the workers' events."""

    def __init__(self, *, num_rows: int, num_resumed: int, num_workers: int, num_resumed_failed: int) -> None:
        self.num_rows = num_rows
        self.num_resumed = num_resumed
        self.num_workers = num_workers
        self.num_lost = 0
        self.num_committed = num_resumed
        self.num_failed = num_resumed_failed
        self._ready: set[str] = set()
        self._of_worker: dict[str, WorkerProgress] = {}
        self._committed_by: dict[str, int] = {}
        self._first_row_s: float | None = None

    def take(self, name: str, event: Event) -> None:
        """Count an event in."""
        match event:
            case WorkerReady():
                self._ready.add(name)
                self._first_row_s = self._first_row_s or time.monotonic()
            case WorkerProgress():
                self._of_worker[name] = event
            case SegmentCommitted(_, totals):
                rows = totals.num_done + totals.num_failed
                self.num_committed += rows
                self.num_failed += totals.num_failed
                self._committed_by[name] = self._committed_by.get(name, 0) + rows
            case SegmentRepeated(_, totals):
                repeated = totals.num_done + totals.num_failed
                self._committed_by[name] = self._committed_by.get(name, 0) + repeated
            case WorkerDied():
                self.num_lost += 1
                self._ready.discard(name)
                self._committed_by.pop(name, None)
                self._of_worker.pop(name, None)
            case _:
                pass

    @property
    def num_ready(self) -> int:
        """Workers that have their model loaded."""
        return len(self._ready)

    @property
    def num_settled(self) -> int:
        """Rows with an outcome, committed or on their way."""
        ahead = (
            max(0, progress.num_done + progress.num_failed - self._committed_by.get(name, 0))
            for name, progress in self._of_worker.items()
        )
        return min(self.num_rows, self.num_committed + sum(ahead))

    @property
    def rows_per_s(self) -> float:
        """Rows settled in this start, by the time since the first worker was ready."""
        elapsed_s = time.monotonic() - self._first_row_s if self._first_row_s else 0.0
        return (self.num_settled - self.num_resumed) / elapsed_s if elapsed_s > 0 else 0.0

    @property
    def num_tokens(self) -> int:
        """Tokens that went through the transformers."""
        return sum(progress.num_tokens for progress in self._of_worker.values())

    @property
    def engine_busy_ratio(self) -> float | None:
        """Share of time in which engines worked, between their first and last step."""
        span_s = sum(progress.engine_span_s for progress in self._of_worker.values())
        busy_s = sum(progress.engine_busy_s for progress in self._of_worker.values())
        return min(1.0, busy_s / span_s) if span_s > 0 else None

    def line(self) -> str:
        """The state in words."""
        settled, rate = self.num_settled, self.rows_per_s
        if rate == 0:
            doing = "computing" if self.num_ready else "loading the model"
            return f"{settled}/{self.num_rows} rows, {self.num_workers} worker(s) {doing}"
        eta = duration((self.num_rows - settled) / rate) if rate > 0 else "unknown"
        lost = f", {self.num_lost} worker(s) lost and replaced" if self.num_lost else ""
        return f"{settled}/{self.num_rows} rows, {self.num_failed} failed, {rate:.2f} rows/s, ETA {eta}{lost}"


class Display(Protocol):
    """Shows a state while it changes."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop showing."""

    def refresh(self) -> None:
        """The state may have changed."""


class PlainDisplay:
    """A line at the beginning, every ten seconds when the state has changed, and at the end."""

    def __init__(self, state: ProgressState) -> None:
        self._state = state
        self._next_s = 0.0
        self._shown = ""

    def __enter__(self) -> Self:
        self.refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._show()

    def refresh(self) -> None:
        """See ``Display``."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LINE_INTERVAL_S
            self._show()

    def _show(self) -> None:
        line = self._state.line()
        if line != self._shown:
            print(line, file=sys.stderr, flush=True)
            self._shown = line


class BarDisplay:
    """A bar that is redrawn in place."""

    def __init__(self, state: ProgressState, console: Console) -> None:
        self._state = state
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        )
        self._bar: TaskID | None = None
        self._next_s = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        self._bar = self._progress.add_task("", total=self._state.num_rows, completed=self._state.num_settled)
        self.refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._show()
        self._progress.stop()

    def refresh(self) -> None:
        """See ``Display``."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _BAR_INTERVAL_S
            self._show()

    def _show(self) -> None:
        assert self._bar is not None
        _, _, words = self._state.line().partition(" rows, ")
        self._progress.update(self._bar, completed=self._state.num_settled, description=words)


def display_of(state: ProgressState) -> Display:
    """A bar if standard error is a terminal, else plain lines."""
    console = Console(stderr=True)
    return BarDisplay(state, console) if console.is_terminal else PlainDisplay(state)


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
