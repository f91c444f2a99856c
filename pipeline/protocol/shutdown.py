"""A request to end early, gracefully: made by a signal or the driver, and looked at by whoever works."""

import os
import threading
import time
from collections.abc import Callable

_STEPPING_SHARE = 0.5
"""Of the time until the deadline: after it the engine makes no more steps, and the rest is for storing results."""


class ShutdownRequest:
    """Asks once, from any thread or a signal handler, and may be asked by any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given: tuple[float, float | None] | None = None  # when, and how long after that everything has to be over
        self.is_awaited = False
        """Whether somebody is at work who looks for a request."""

    def request(self, deadline_s: float | None = None) -> None:
        """Ask to end.

        Args:
            deadline_s: How much time there is. None: as much as what was begun needs; only nothing new is begun. A
                request with a deadline takes the place of one without, not the other way round.
        """
        if self._given is None or (self._given[1] is None and deadline_s is not None):
            self._given = (self._clock(), deadline_s)

    @property
    def is_requested(self) -> bool:
        """Whether anything was asked for."""
        return self._given is not None

    @property
    def has_deadline(self) -> bool:
        """Whether there is a deadline: rows that the engine has not got are left to others."""
        return self._given is not None and self._given[1] is not None

    @property
    def has_time_for_steps(self) -> bool:
        """Whether the engine may continue with the rows that it has."""
        if self._given is None or self._given[1] is None:
            return True
        return self._clock() - self._given[0] < _STEPPING_SHARE * self._given[1]

    @property
    def left_s(self) -> float:
        """Time until the deadline, 0 when it has passed; infinite without one."""
        if self._given is None or self._given[1] is None:
            return float("inf")
        return max(0.0, self._given[0] + self._given[1] - self._clock())


def exit_after(deadline_s: float, status: int, last_words: Callable[[], None] = lambda: None) -> None:
    """End this process when the time is up, whatever its threads hang in; unless it has ended before."""

    def leave() -> None:
        last_words()
        os._exit(status)

    timer = threading.Timer(deadline_s, leave)
    timer.daemon = True
    timer.start()
