"""How many requests to a store are under way at once: fewer when it throttles or times out, more while it does not."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MAX_CONCURRENCY = 64
_CUT_RATIO = 0.5
_CUT_INTERVAL_S = 1.0  # requests that were under way together are refused together, and are one reason


class Pace:
    """A limit that is halved at a refusal and grows by one request for each round of successes.

    So the work goes on at what the store allows, and with one request at a time at worst. Threads share a pace.

    Args:
        max_concurrency: Where it begins, and its upper bound.
        clock: Seconds from any origin.
    """

    def __init__(self, max_concurrency: int = MAX_CONCURRENCY, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._max = max_concurrency
        self._limit = float(max_concurrency)
        self._clock = clock
        self._cut_at_s = -_CUT_INTERVAL_S
        self._num_active = 0
        self._changed = threading.Condition()
        self.num_refusals = 0
        """How often the store has refused, since the beginning."""

    @property
    def limit(self) -> int:
        """Requests that may be under way at once."""
        return int(self._limit)

    @property
    def is_slowed(self) -> bool:
        """Whether the store has refused so lately that the limit is not back at its bound."""
        return self.limit < self._max

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Within the block one request may be under way; waits for its turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._num_active < self.limit)
            self._num_active += 1
        refusals_before = self.num_refusals
        try:
            yield
        except BaseException:
            self._leave(has_succeeded=False)
            raise
        self._leave(has_succeeded=self.num_refusals == refusals_before)

    def refused(self) -> None:
        """The store has throttled a request or has not answered it in time."""
        with self._changed:
            self.num_refusals += 1
            if self._clock() - self._cut_at_s >= _CUT_INTERVAL_S:
                self._cut_at_s = self._clock()
                self._limit = max(1.0, self._limit * _CUT_RATIO)

    def _leave(self, *, has_succeeded: bool) -> None:
        with self._changed:
            self._num_active -= 1
            if has_succeeded:
                self._limit = min(float(self._max), self._limit + 1 / self._limit)
            self._changed.notify_all()
