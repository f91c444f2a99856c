"""Trying again what a throttled or unreachable store refused; the store's own quick retries are spent by then."""

import itertools
import threading
from collections.abc import Callable
from typing import TypeVar

from pipeline.storage.errors import StoreError

MAX_TRIES = 7
FIRST_WAIT_S = 1.0
MAX_WAIT_S = 30.0
MAX_THROTTLED_TRIES = 120
"""Waits of ``MAX_WAIT_S`` that make up an hour in which a store only throttles."""

Result = TypeVar("Result")


class RetryPolicy:
    """Repeats operations on a store, waiting longer each time: about a minute and a half in all.

    A store that throttles is alive: it is waited for up to an hour, since a run should become slower, not fail; unless
    ``max_tries`` is given, which bounds both. Threads may share it. ``stop`` cuts waiting short. ``on_try`` is called
    after each try that failed, as a heartbeat.
    """

    def __init__(
        self,
        stop: threading.Event,
        *,
        first_wait_s: float = FIRST_WAIT_S,
        max_wait_s: float | None = None,
        max_tries: int | None = None,
        on_try: Callable[[], None] = lambda: None,
    ) -> None:
        self._stop = stop
        self._first_wait_s = first_wait_s
        self._max_wait_s = max_wait_s
        self._max_tries = max_tries
        self._on_try = on_try

    @property
    def is_over(self) -> bool:
        """Whether waiting is cut short."""
        return self._stop.is_set()

    def retry(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns; it must be safe to repeat.

        Raises:
            StoreError: As ``work``, with the number of its tries, if trying again cannot help, has not helped, or the
                run is being stopped.
        """
        wait_s, longest_s = self._first_wait_s, self._max_wait_s or MAX_WAIT_S
        tries_left, throttled_left = self._max_tries or MAX_TRIES, self._max_tries or MAX_THROTTLED_TRIES
        for attempt in itertools.count(1):
            try:
                return work()
            except StoreError as error:
                self._on_try()
                error.attempts = attempt
                tries_left -= not error.is_throttled
                throttled_left -= error.is_throttled
                if not error.retryable or not tries_left or not throttled_left or self._stop.wait(wait_s):
                    raise
            wait_s = min(2 * wait_s, longest_s)
        raise AssertionError("a count ends")
