"""One worker in this process, for debugging and for hosts without Ray."""

import queue
import threading
from collections.abc import Sequence

from pipeline.event import Event
from pipeline.lease import Lease, LeaseQueue
from pipeline.pool import WorkerPool, drain
from pipeline.run_settings import RunSettings
from pipeline.worker import Worker


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
