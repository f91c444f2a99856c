"""Null workers in processes of their own, which the coordinator reaches through pipes."""

import multiprocessing
import queue
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue

from pipeline.driver.pool import WorkerPool
from pipeline.protocol.messages import Event, Lease, LeaseQueue, WorkerEnded
from pipeline.protocol.settings import RunSettings


class ProcessPool(WorkerPool):
    """A fixed number of null workers.

    Attributes:
        counts: What all of them together asked of the store, and ``cpu_us``, the processor time that they took from
            the loading of their null model on. Complete when they have ended by themselves.
    """

    def __init__(self, settings: RunSettings, num_workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._events: Queue[tuple[str, Event | Counter[str]]] = context.Queue()
        self._leases: dict[str, Queue[Lease | None]] = {
            f"worker-{number}": context.Queue() for number in range(num_workers)
        }
        self._processes: list[BaseProcess] = [
            context.Process(target=_work, args=(name, settings, leases, self._events), daemon=True)
            for name, leases in self._leases.items()
        ]
        self.counts: Counter[str] = Counter()

    def start(self) -> list[str]:
        """See ``WorkerPool``."""
        for process in self._processes:
            process.start()
        return list(self._leases)

    @property
    def can_replace(self) -> bool:
        """No: these workers die, they do not fail."""
        return False

    def discard(self, name: str) -> None:
        """Never needed."""
        raise RuntimeError(f"worker {name} did not fail")

    def replace(self, name: str) -> str:
        """Never needed: nobody kills these."""
        raise RuntimeError(f"null worker {name} died")

    def assign(self, name: str, lease: Lease) -> None:
        """See ``WorkerPool``."""
        self._leases[name].put(lease)

    def close(self, name: str) -> None:
        """See ``WorkerPool``."""
        self._leases[name].put(None)

    def drain(self, name: str, deadline_s: float | None) -> None:
        """Never needed: nobody gives notice here."""
        raise AssertionError(name)

    def commit_held(self, name: str) -> None:
        """Never needed: no engine fails here."""
        raise AssertionError(name)

    def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
        """See ``WorkerPool``."""
        heard: list[tuple[str, Event]] = []
        try:
            self._take(self._events.get(timeout=timeout_s), heard)
            while True:
                self._take(self._events.get_nowait(), heard)
        except queue.Empty:
            return heard

    def stop(self) -> None:
        """See ``WorkerPool``."""
        for process in self._processes:
            process.join(timeout=10)
            process.kill()

    def _take(self, word: tuple[str, Event | Counter[str]], heard: list[tuple[str, Event]]) -> None:
        name, said = word
        if isinstance(said, Counter):
            self.counts += said
        else:
            heard.append((name, said))


def _work(
    name: str, settings: RunSettings, leases: LeaseQueue, events: "Queue[tuple[str, Event | Counter[str]]]"
) -> None:
    from benchmarks.scale.null_worker import NullWorker  # torch, which the coordinator has no use for

    cpu_s = 0.0

    def emit(event: Event) -> None:
        if isinstance(event, WorkerEnded):  # the last word, after which nobody listens
            cpu_us = round(1e6 * (time.process_time() - cpu_s))
            events.put((name, worker.store.counts + Counter(cpu_us=cpu_us)))
        events.put((name, event))

    worker = NullWorker(settings, emit)
    cpu_s = time.process_time()
    worker.run(leases)
