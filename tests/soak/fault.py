"""Faults of a store and deaths of processes, drawn from a seed, noted in a file before they happen."""

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Literal

from tests.soak.point import Point

FaultKind = Literal["delay", "drop", "lose answer", "duplicate", "truncate", "403", "500", "503"]

KINDS_OF: dict[str, tuple[FaultKind, ...]] = {
    "write": ("delay", "drop", "lose answer", "duplicate", "403", "500", "503"),
    "read": ("delay", "drop", "truncate", "403", "500", "503"),
}
FATAL: FaultKind = "403"
"""No retry helps against it, so the start ends: drawn less often than the others."""


class FaultLog:
    """A line for each fault, whole or not at all, from any process; a process that is killed has written its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def note(self, what: str) -> None:
        number = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        os.write(number, f"{what}\n".encode())
        os.close(number)

    def counts(self) -> Counter[str]:
        return Counter(self._path.read_text().splitlines())


class FaultSource:
    """Draws for one process: a fault for some of its requests, and the point at which it is killed, if at any.

    Args:
        log: Where faults are noted.
        seed: Draws the same faults for the same requests in the same order.
        rate: Share of requests that get one, in [0, 1].
        kill_at: One of ``POINTS`` and how many times it is passed before, or None.
    """

    def __init__(self, log: FaultLog, seed: str, *, rate: float, kill_at: tuple[Point, int] | None) -> None:
        self._log = log
        self._rng = random.Random(seed)
        self._rate = rate
        self._kill_at = kill_at
        self._num_passed = 0
        self._lock = threading.Lock()

    def draw(self, action: str) -> FaultKind | None:
        """What happens to the next request, a ``read`` or a ``write``; None: nothing. Delays are served here."""
        with self._lock:
            if self._rng.random() >= self._rate:
                return None
            kind = self._rng.choice(KINDS_OF[action])
            if kind == FATAL and self._rng.random() < 0.95:
                kind = "503"
            delay_s = self._rng.uniform(0, 0.02)
        self._log.note(kind)
        if kind != "delay":
            return kind
        time.sleep(delay_s)
        return None

    def pass_point(self, point: Point | None) -> None:
        """Be killed here, if this is the point and the time for it."""
        if self._kill_at is None or self._kill_at[0] != point:
            return
        with self._lock:
            self._num_passed += 1
            if self._num_passed <= self._kill_at[1]:
                return
        self._log.note(f"kill at {point}")
        os.kill(os.getpid(), signal.SIGKILL)
