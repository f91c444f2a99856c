"""How long the oldest piece of work of a worker's threads has shown no sign of life."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class WorkClock:
    """Threads tell when they begin, end, and in between when they get on.

    Args:
        clock: Seconds from any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard_s: dict[int, float] = {}  # by thread; each changes its own entry only

    @contextmanager
    def work(self) -> Iterator[None]:
        """The block is one piece of work of this thread."""
        thread = threading.get_ident()
        self._heard_s[thread] = self._clock()
        try:
            yield
        finally:
            self._heard_s.pop(thread, None)

    def tick(self) -> None:
        """This thread gets on, though its work is not done: it waits for a store, say, and asks it again and again."""
        thread = threading.get_ident()
        if thread in self._heard_s:
            self._heard_s[thread] = self._clock()

    @property
    def silence_s(self) -> float:
        """Since when the thread that was silent longest has said nothing; 0 if none is at work."""
        return max(0.0, self._clock() - min(list(self._heard_s.values()), default=self._clock()))
