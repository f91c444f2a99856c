"""Workers as the coordinator sees them: named, fed with leases, heard through events.

``LocalPool`` runs one worker in this process, for debugging and for hosts without Ray; ``ray_pool`` runs many.
"""

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

from pipeline.event import Event
from pipeline.lease import Lease
from pipeline.run_settings import RunSettings
from pipeline.worker import LeaseQueue, Worker


class WorkerPool(ABC):
    """Some workers. Names are never used twice: a worker that replaces a dead one has a name of its own."""

    @abstractmethod
    def start(self) -> list[str]:
        """Start the workers and return their names; they load their models meanwhile."""

    @abstractmethod
    def replace(self, name: str) -> str:
        """Start a worker in place of a dead one and return its name."""

    @abstractmethod
    def assign(self, name: str, lease: Lease) -> None:
        """Give a worker one more segment. Does nothing if it is dead: its death is or will be an event."""

    @abstractmethod
    def close(self, name: str) -> None:
        """Tell a worker that it gets nothing more."""

    @abstractmethod
    def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
        """What workers said since the last call, waiting at most ``timeout_s`` for the first word."""

    @abstractmethod
    def stop(self) -> None:
        """End every worker now; rows in hand are given up."""


class LocalPool(WorkerPool):
    """One worker on a thread of this process."""

    _NAME = "local"

    def __init__(self, settings: RunSettings) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._leases: LeaseQueue = queue.SimpleQueue()
        self._worker = Worker(settings, self._events.put)
        self._thread = threading.Thread(target=self._worker.run, args=(self._leases,), name="worker", daemon=True)

    def start(self) -> list[str]:
        """See ``WorkerPool``."""
        self._thread.start()
        return [self._NAME]

    def replace(self, name: str) -> str:
        """Never needed: this worker dies with its process only."""
        raise RuntimeError(f"worker {name!r} of this process cannot be replaced")

    def assign(self, name: str, lease: Lease) -> None:
        """See ``WorkerPool``."""
        self._leases.put(lease)

    def close(self, name: str) -> None:
        """See ``WorkerPool``."""
        self._leases.put(None)

    def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
        """See ``WorkerPool``."""
        return [(self._NAME, event) for event in drain(self._events, timeout_s)]

    def stop(self) -> None:
        """See ``WorkerPool``; returns when the step in progress is done."""
        self._worker.stop()
        self._thread.join()


def drain(events: "queue.SimpleQueue[Event]", timeout_s: float) -> list[Event]:
    """Everything in the queue, after waiting for the first entry."""
    taken: list[Event] = []
    try:
        taken.append(events.get(timeout=timeout_s))
        while True:
            taken.append(events.get_nowait())
    except queue.Empty:
        return taken
