"""One worker in this process, for debugging and for hosts without Ray."""

import queue
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress

from pipeline.driver.pool import WorkerPool, drain
from pipeline.output.poison_segments import CrashHistory, PoisonRecord
from pipeline.protocol.messages import Event, Lease, LeaseQueue, SegmentCommitted, WorkerFailed
from pipeline.protocol.settings import RunSettings
from pipeline.storage.errors import StoreError
from pipeline.worker.worker import Worker


class LocalPool(WorkerPool):
    """One worker on a thread of this process."""

    _NAME = "local"

    def __init__(self, settings: RunSettings, poison_segments: PoisonRecord | None = None) -> None:
        self._poison_segments = poison_segments
        self._held: set[str] = set()
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
        """See ``WorkerPool``; what this process holds is recorded now, since it could not be if the process died."""
        if self._poison_segments is not None:
            self._held.add(lease.segment.name)
            self._poison_segments.put(lease.segment.name, lease.crash_history or CrashHistory())
        self._leases.put(lease)

    def close(self, name: str) -> None:
        """See ``WorkerPool``."""
        self._leases.put(None)

    def drain(self, name: str, deadline_s: float | None) -> None:
        """See ``WorkerPool``."""
        self._worker.drain(deadline_s)

    def commit_held(self, name: str) -> None:
        """See ``WorkerPool``."""
        self._worker.commit_held()

    def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
        """See ``WorkerPool``."""
        events = drain(self._events, timeout_s)
        self._let_go(event.segment_name for event in events if isinstance(event, SegmentCommitted))
        if any(isinstance(event, WorkerFailed) and event.row_ids for event in events):
            self._held.clear()  # they stay recorded: the engine failed with their rows, and the next start is to know
        return [(self._NAME, event) for event in events]

    def stop(self) -> None:
        """See ``WorkerPool``; returns when the step in progress is done."""
        self._worker.stop()
        self._thread.join()
        with suppress(StoreError):  # the next start would only be slower for it
            self._let_go(list(self._held))

    def _let_go(self, segment_names: Iterable[str]) -> None:
        for name in segment_names:
            if self._poison_segments is not None and name in self._held:
                self._poison_segments.clear(name)
                self._held.discard(name)
