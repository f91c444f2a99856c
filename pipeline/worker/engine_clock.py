"""How the time of an engine was spent between its first and its last step."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class EngineClock:
    """Adds up steps, and waits for work between steps; whatever else lies between two steps is the loop's own time.

    Waits before the first step are start-up, those after the last one are the end of the work: neither counts. One
    thread owns it; others may read.

    Args:
        now: A clock that only goes forward, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._first_s: float | None = None
        self._last_s = 0.0
        self._wait_s = 0.0  # since the last step
        self.busy_s = 0.0
        self.waited_s = 0.0
        self.is_stepping = False

    @property
    def span_s(self) -> float:
        """From the first step's begin to the latest step's end; 0 before the first has ended."""
        return self._last_s - self._first_s if self._first_s is not None and self._last_s else 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """One step of the engine; a step that raises stays open."""
        started_s = self._now()
        if self._first_s is None:
            self._first_s = started_s
        else:
            self.waited_s += self._wait_s
        self._wait_s = 0.0
        self.is_stepping = True
        yield
        self.is_stepping = False
        self._last_s = self._now()
        self.busy_s += self._last_s - started_s

    @contextmanager
    def wait(self) -> Iterator[None]:
        """A wait with nothing for the engine to do."""
        started_s = self._now()
        try:
            yield
        finally:
            self._wait_s += self._now() - started_s
