"""Calls that may hang, given up after a while: what hangs goes on on a thread of its own, and nobody waits for it."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")

_LOOK_INTERVAL_S = 0.2


class CallAbandoned(Exception):
    """A call took longer than it may, or nobody wants its result any more."""


class LimitedCalls(Generic[Result]):
    """Runs calls on threads that are used again when they come back. Threads may share it.

    The threads are daemons: one that hangs keeps no process alive.

    Args:
        is_over: Asked while a call is waited for; from then on none is.
    """

    def __init__(self, is_over: Callable[[], bool] = lambda: False) -> None:
        self._is_over = is_over
        self._idle: list[_Caller[Result]] = []

    def run(self, work: Callable[[], Result], timeout_s: float) -> Result:
        """What ``work`` returns or raises.

        Raises:
            CallAbandoned: There is nothing after ``timeout_s``.
        """
        try:
            caller = self._idle.pop()
        except IndexError:
            caller = _Caller(self._idle)
        answers: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        caller.calls.put((work, answers))
        answer = self._wait_for(answers, time.monotonic() + timeout_s)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        """End the threads that wait for work; more may be asked for later."""
        while self._idle:
            self._idle.pop().calls.put(None)

    def _wait_for(
        self, answers: "queue.SimpleQueue[Result | BaseException]", deadline_s: float
    ) -> Result | BaseException:
        while True:
            left_s = deadline_s - time.monotonic()
            try:
                return answers.get(timeout=max(0.0, min(_LOOK_INTERVAL_S, left_s)))
            except queue.Empty:
                if left_s <= 0 or self._is_over():
                    raise CallAbandoned from None


class _Caller(Generic[Result]):
    """One thread; it is idle again when its call has come back, however late."""

    def __init__(self, idle: "list[_Caller[Result]]") -> None:
        self.calls: queue.SimpleQueue[tuple[Callable[[], Result], queue.SimpleQueue[Result | BaseException]] | None] = (
            queue.SimpleQueue()
        )
        self._idle = idle
        threading.Thread(target=self._live, name="limited call", daemon=True).start()

    def _live(self) -> None:
        while (call := self.calls.get()) is not None:
            work, answers = call
            try:
                answer: Result | BaseException = work()
            except BaseException as error:  # handed over to the thread that waits
                answer = error
            self._idle.append(self)
            answers.put(answer)
            del call, work, answers, answer  # what was read is not kept while there is nothing to do
