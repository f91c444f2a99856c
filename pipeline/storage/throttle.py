"""How requests to a store are limited and repeated.

Fewer are in flight when the store throttles or times out, more while it does not (AIMD). A read that takes unusually
long is hedged: sent a second time, and the first answer is taken.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Result = TypeVar("Result")

MIN_DELAY_S = 0.2
"""No read is asked for twice before that."""

_NUM_REMEMBERED = 100
_NUM_TO_KNOW = 20  # reads, before it is known what is usual
_USUAL_RATIO = 0.95
_HEDGE_FACTOR = 2.0
_BUDGET_RATIO = 0.05  # hedges by reads, in the long run
_MAX_BUDGET = 10.0


class Hedge(Generic[Result]):
    """Reads of one store. Threads share it.

    A read is repeated when it takes twice as long as 95 of 100 before it; at most one in twenty is, so that a store
    that has become slow as a whole is not asked for twice the work.

    Args:
        may_hedge: Asked before a second request, for instance whether the store is not throttling.
        min_delay_s: See ``MIN_DELAY_S``.
    """

    def __init__(self, may_hedge: Callable[[], bool] = lambda: True, *, min_delay_s: float = MIN_DELAY_S) -> None:
        self._may_hedge = may_hedge
        self._min_delay_s = min_delay_s
        self._durations_s: deque[float] = deque(maxlen=_NUM_REMEMBERED)
        self._budget = 1.0
        self._lock = threading.Lock()
        self.num_hedged = 0
        """Reads that were asked for twice."""

    def run(self, read: Callable[[], Result]) -> Result:
        """What ``read`` returns or raises, whichever of at most two calls returns first; an error only if both raise.

        A call that comes second continues on a thread of its own, and what it returns is dropped.
        """
        started_s = time.monotonic()
        delay_s = self._delay_s()
        result = read() if delay_s is None else self._race(read, delay_s)
        with self._lock:
            self._durations_s.append(time.monotonic() - started_s)
            self._budget = min(_MAX_BUDGET, self._budget + _BUDGET_RATIO)
        return result

    def _delay_s(self) -> float | None:
        with self._lock:
            if len(self._durations_s) < _NUM_TO_KNOW:
                return None
            usual_s = sorted(self._durations_s)[int(_USUAL_RATIO * len(self._durations_s))]
        return max(self._min_delay_s, _HEDGE_FACTOR * usual_s)

    def _race(self, read: Callable[[], Result], delay_s: float) -> Result:
        answers: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        num_asked = 1
        _ask(read, answers)
        try:
            answer = answers.get(timeout=delay_s)
        except queue.Empty:
            if self._take_from_budget():
                num_asked = 2
                _ask(read, answers)
            answer = answers.get()
        if isinstance(answer, BaseException) and num_asked == 2:
            answer = answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _take_from_budget(self) -> bool:
        with self._lock:
            if self._budget < 1 or not self._may_hedge():
                return False
            self._budget -= 1
            self.num_hedged += 1
            return True


def _ask(read: Callable[[], Result], answers: "queue.SimpleQueue[Result | BaseException]") -> None:
    def answer() -> None:
        try:
            answers.put(read())
        except BaseException as error:  # handed over to the thread that waits
            answers.put(error)

    threading.Thread(target=answer, name="read", daemon=True).start()


MAX_CONCURRENCY = 64
_CUT_RATIO = 0.5
_CUT_INTERVAL_S = 1.0  # requests that were under way together are refused together, and are one reason


class ConcurrencyLimit:
    """A limit that is halved at a refusal and grows by one request for each round of successes.

    So the work continues at what the store allows, and with one request at a time at worst. Threads share a limit.
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
