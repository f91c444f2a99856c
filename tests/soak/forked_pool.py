"""Workers as copies of this process, made before it has threads: real processes to kill, started in milliseconds."""

import os
import queue
import threading
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from pipeline.driver.pool import WorkerPool
from pipeline.errors import RunFailed
from pipeline.protocol.messages import Event, Lease, LeaseQueue, WorkerDied
from pipeline.protocol.settings import RunSettings
from pipeline.worker.worker import Worker


class SpareWorkers:
    """Processes that wait for settings. They end when the process that made them does."""

    def __init__(self, count: int, preprocess: Callable[[int], None]) -> None:
        self._spare: list[tuple[int, Connection]] = []
        for number in range(count):
            ours, theirs = Pipe()
            if (pid := os.fork()) == 0:
                for _, other in self._spare:  # else the others would not see that their driver has ended
                    other.close()
                ours.close()
                _serve(theirs, number, preprocess)
            theirs.close()
            self._spare.append((pid, ours))
        self.started = [pid for pid, _ in self._spare]

    def take(self) -> Connection:
        if not self._spare:
            raise RunFailed("all workers that were prepared have died")
        return self._spare.pop(0)[1]


class ForkedPool(WorkerPool):
    """Some of the spare workers at a time."""

    def __init__(self, settings: RunSettings, spare: SpareWorkers, num_workers: int) -> None:
        self._settings = settings
        self._spare = spare
        self._num_workers = num_workers
        self._connections: dict[str, Connection] = {}
        self._num_started = 0

    def start(self) -> list[str]:
        return [self._start_one() for _ in range(self._num_workers)]

    def replace(self, name: str) -> str:
        return self._start_one()

    def assign(self, name: str, lease: Lease) -> None:
        self._send(name, lease)

    def close(self, name: str) -> None:
        self._send(name, None)

    def drain(self, name: str, deadline_s: float | None) -> None:
        raise AssertionError(name)

    def commit_held(self, name: str) -> None:
        raise AssertionError(name)

    def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
        names = {connection: name for name, connection in self._connections.items()}
        events: list[tuple[str, Event]] = []
        for connection in wait(list(names), timeout_s):
            assert isinstance(connection, Connection)
            name = names[connection]
            try:
                events.append((name, connection.recv()))
            except (EOFError, OSError):
                self._connections.pop(name).close()
                events.append((name, WorkerDied("its process was killed")))
        return events

    def stop(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _start_one(self) -> str:
        name = f"worker-{self._num_started}"
        self._num_started += 1
        self._connections[name] = self._spare.take()
        self._send(name, self._settings)
        return name

    def _send(self, name: str, message: Any) -> None:
        try:
            if name in self._connections:
                self._connections[name].send(message)
        except OSError:
            return  # it has died, which will be an event


def _serve(connection: Connection, number: int, preprocess: Callable[[int], None]) -> None:
    """The life of a worker process: settings, then leases in, events out."""
    try:
        settings = connection.recv()
        preprocess(number)
        leases: LeaseQueue = queue.SimpleQueue()
        lock = threading.Lock()

        def emit(event: Event) -> None:
            with lock:
                connection.send(event)

        threading.Thread(target=Worker(settings, emit).run, args=(leases,), daemon=True).start()
        while True:
            leases.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:
        os._exit(1)
