"""One worker in a process of its own, for hosts without Ray where a row may be poison."""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import NamedTuple

from dimoo_batch._remote import call
from pipeline.driver.pool import WorkerPool
from pipeline.protocol.messages import Event, Lease, LeaseQueue, WorkerDied
from pipeline.protocol.settings import RunSettings
from pipeline.protocol.shutdown import exit_after

_JOIN_TIMEOUT_S = 10.0


class _Drain(NamedTuple):
    """Asks the child to end early."""

    deadline_s: float | None


class _CommitHeld(NamedTuple):
    """Asks the child to commit what it holds back."""


class ChildPool(WorkerPool):
    """One child process at a time; when it dies another takes its place. It ends with this process."""

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self._context = multiprocessing.get_context("spawn")
        self._num_started = 0
        self._name = ""
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def start(self) -> list[str]:
        """See ``WorkerPool``."""
        return [self._start_one()]

    def replace(self, name: str) -> str:
        """See ``WorkerPool``."""
        return self._start_one()

    @property
    def can_replace(self) -> bool:
        """See ``WorkerPool``."""
        return True

    def discard(self, name: str) -> None:
        """See ``WorkerPool``."""
        self.stop()

    def assign(self, name: str, lease: Lease) -> None:
        """See ``WorkerPool``."""
        self._send(name, lease)

    def close(self, name: str) -> None:
        """See ``WorkerPool``."""
        self._send(name, None)

    def drain(self, name: str, deadline_s: float | None) -> None:
        """See ``WorkerPool``."""
        self._send(name, _Drain(deadline_s))

    def commit_held(self, name: str) -> None:
        """See ``WorkerPool``."""
        self._send(name, _CommitHeld())

    def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
        """See ``WorkerPool``."""
        connection, events = self._connection, list[tuple[str, Event]]()
        if connection is None or not wait([connection], timeout_s):
            return events
        try:
            while connection.poll():
                events.append((self._name, connection.recv()))
        except (EOFError, OSError):
            events.append((self._name, WorkerDied(self._end())))
        return events

    def stop(self) -> None:
        """See ``WorkerPool``."""
        if self._process is not None:
            self._process.kill()
            self._end()

    def _start_one(self) -> str:
        self._name = f"child-{self._num_started}"
        self._num_started += 1
        self._connection, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=call, args=(_work, self._settings, theirs), name=self._name, daemon=True
        )
        self._process.start()
        theirs.close()
        return self._name

    def _send(self, name: str, message: Lease | _Drain | _CommitHeld | None) -> None:
        if self._connection is not None and name == self._name:
            try:
                self._connection.send(message)
            except OSError:  # it is dead, which the next poll finds out
                return

    def _end(self) -> str:
        """Let go of the process; returns how it ended."""
        assert self._process is not None
        assert self._connection is not None
        self._process.join(_JOIN_TIMEOUT_S)
        code = self._process.exitcode
        self._connection.close()
        self._process = self._connection = None
        if code is not None and code < 0:
            return f"the process was ended by {signal.Signals(-code).name}"
        return f"the process ended with status {code}"


def _work(settings: RunSettings, connection: Connection) -> None:
    """The child's main function: a worker fed and followed through a connection."""
    from pipeline.worker.worker import Worker  # with torch, which the driver has no use for

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which ends this process
    leases: LeaseQueue = queue.SimpleQueue()
    sending = threading.Lock()

    def emit(event: Event) -> None:
        with sending:
            connection.send(event)

    worker = Worker(settings, emit)

    def drain(deadline_s: float | None) -> None:
        worker.drain(deadline_s)
        if deadline_s is not None:
            exit_after(deadline_s, 128 + signal.SIGTERM)

    def receive() -> None:
        try:
            while True:
                message: Lease | _Drain | _CommitHeld | None = connection.recv()
                if isinstance(message, _Drain):
                    drain(message.deadline_s)
                elif isinstance(message, _CommitHeld):
                    worker.commit_held()
                else:
                    leases.put(message)
        except (EOFError, OSError):
            os._exit(1)  # the driver is gone

    def take_signal(number: int, frame: FrameType | None) -> None:
        deadline_s = settings.life.stop_deadline_s  # on a thread: this one may be in the middle of sending
        threading.Thread(target=drain, args=(deadline_s,), name="drain", daemon=True).start()

    signal.signal(signal.SIGTERM, take_signal)
    threading.Thread(target=receive, name="receive", daemon=True).start()
    worker.run(leases)
