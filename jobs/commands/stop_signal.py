"""SIGTERM, as a machine that is taken away or a person sends it: a run at work drains, anything else ends at once."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from pipeline.protocol.shutdown import StopNotice, exit_after

WORK_SHARE = 0.8
"""Of the deadline: what workers get; the rest is for ending them, the epoch and Ray."""


class Stopped(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def raise_stopped(number: int, frame: FrameType | None) -> None:
    """The handler as long as there is nothing to drain."""
    raise Stopped(number)


def drain_at_signal(notice: StopNotice, deadline_s: float, last_words: Callable[[], str]) -> None:
    """From now on SIGTERM gives a notice, and a second one ends the process at once.

    Args:
        notice: Given if somebody waits for it; if not, the first signal raises ``Stopped`` too.
        deadline_s: When this process is gone, come what may.
        last_words: What it says if it has to end while something hangs.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if notice.is_given or not notice.is_awaited:
            raise Stopped(number)
        notice.give(WORK_SHARE * deadline_s)
        _say(f"dimoo-batch: stopping in good order, within {deadline_s:g} s; a second signal ends it at once")
        exit_after(deadline_s, 128 + number, lambda: _say(last_words()))

    signal.signal(signal.SIGTERM, handle)


def _say(text: str) -> None:
    """Without the locks of ``sys.stderr``, whose holder may be what hangs."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{text}\n".encode())
