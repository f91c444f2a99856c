"""Trying again what a throttled or unreachable store refused; the store's own quick retries are spent by then."""

import itertools
import threading
from collections.abc import Callable
from typing import TypeVar

from pipeline.errors import StoreError

MAX_TRIES = 7
FIRST_WAIT_S = 1.0
MAX_WAIT_S = 30.0

Result = TypeVar("Result")


class Patience:
    """Repeats operations on a store, waiting longer each time: about a minute and a half in all.

    Threads may share it. ``stop`` cuts waiting short.
    """

    def __init__(
        self,
        stop: threading.Event,
        *,
        first_wait_s: float = FIRST_WAIT_S,
        max_wait_s: float | None = None,
        max_tries: int | None = None,
    ) -> None:
        self._stop = stop
        self._first_wait_s = first_wait_s
        self._max_wait_s = max_wait_s
        self._max_tries = max_tries

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
        max_tries = self._max_tries or MAX_TRIES
        for attempt in itertools.count(1):
            try:
                return work()
            except StoreError as error:
                error.attempts = attempt
                if attempt == max_tries or not error.retryable or self._stop.wait(wait_s):
                    raise
            wait_s = min(2 * wait_s, longest_s)
        raise AssertionError("a count ends")
