"""Workers as Ray actors. Ray places and starts them; leases, retries and results are ours.

No image passes through Ray's object store: actors are sent segments (a few numbers) and answer with events.
"""

import os
import queue
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from dimoo_batch._remote import WorkerActor
from dimoo_core.errors import ConfigError
from pipeline.driver.pool import WorkerPool, drain
from pipeline.protocol.messages import Event, Lease, LeaseQueue, WorkerDied
from pipeline.protocol.settings import RunSettings
from pipeline.protocol.shutdown import exit_after

_ACTOR_POLL_S = 0.5
_MAX_REASON_CHARS = 300


class RayWorker:
    """One worker in an actor's process. Its methods only move messages; the work is on a thread.

    SIGTERM, which is also how Ray ends the processes of a machine that is taken away, drains it.
    It works in the driver's folder: on a cluster that was joined, relative names would start where Ray was started.
    """

    def __init__(self, settings: RunSettings, folder: str) -> None:
        with suppress(OSError):  # a machine that lacks it can still do without relative names
            os.chdir(folder)
        from pipeline.worker.worker import Worker  # with torch, which the driver has no use for

        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._leases: LeaseQueue = queue.SimpleQueue()
        self._worker = Worker(settings, self._events.put)
        signal.signal(signal.SIGTERM, lambda number, frame: self.drain(settings.life.stop_deadline_s))
        # A daemon: a thread that is not would keep the process alive after Ray has let go of the actor.
        threading.Thread(target=self._worker.run, args=(self._leases,), name="worker", daemon=True).start()

    def node(self) -> str:
        """Ray's id of the machine."""
        return str(ray.get_runtime_context().get_node_id())

    def assign(self, lease: Lease | None) -> None:
        """One more segment, or None: there are no more."""
        self._leases.put(lease)

    def drain(self, deadline_s: float | None) -> None:
        """End early, gracefully. With a deadline the process exits then in any case."""
        self._worker.drain(deadline_s)
        if deadline_s is not None:
            exit_after(deadline_s, 128 + signal.SIGTERM)

    def commit_held(self) -> None:
        """Commit what is held back."""
        self._worker.commit_held()

    def poll(self, timeout_s: float) -> list[Event]:
        """What happened since the last call."""
        return drain(self._events, timeout_s)


class RayPool(WorkerPool):
    """``num_workers`` actors on the Ray cluster that this process is connected to.

    Args:
        num_cpus: Cores reserved for each, and the number of its torch threads.
        num_gpus: GPUs reserved for each; Ray shows an actor its own only.
    """

    def __init__(self, settings: RunSettings, *, num_workers: int, num_cpus: float, num_gpus: float) -> None:
        if num_workers < 1:
            raise ConfigError(f"workers must be at least 1 with Ray, got {num_workers}")
        self._settings = settings
        self._num_workers = num_workers
        # No restarts and no retries by Ray: a fresh actor is started here, and its rows are leased again.
        self._actor_class: Any = ray.remote(
            num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=0, max_task_retries=0, max_concurrency=4
        )(WorkerActor)
        self._actors: dict[str, Any] = {}
        self._polls: dict[Any, str] = {}
        self._nodes: dict[str, Any] = {}  # of each worker, as Ray's promise of it
        self._num_started = 0

    def start(self) -> list[str]:
        """See ``WorkerPool``."""
        return [self._start_one() for _ in range(self._num_workers)]

    def replace(self, name: str) -> str:
        """See ``WorkerPool``."""
        return self._start_one()

    @property
    def can_replace(self) -> bool:
        """See ``WorkerPool``."""
        return True

    def discard(self, name: str) -> None:
        """See ``WorkerPool``."""
        self._forget(name)

    def assign(self, name: str, lease: Lease) -> None:
        """See ``WorkerPool``."""
        if name in self._actors:
            self._actors[name].call.remote("assign", lease)

    def close(self, name: str) -> None:
        """See ``WorkerPool``."""
        if name in self._actors:
            self._actors[name].call.remote("assign", None)

    def drain(self, name: str, deadline_s: float | None) -> None:
        """See ``WorkerPool``."""
        if name in self._actors:
            self._actors[name].call.remote("drain", deadline_s)

    def commit_held(self, name: str) -> None:
        """See ``WorkerPool``."""
        if name in self._actors:
            self._actors[name].call.remote("settle")

    def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
        """See ``WorkerPool``; keeps one poll under way on every actor."""
        if not self._polls:
            time.sleep(timeout_s)
            return []
        finished, _ = ray.wait(list(self._polls), num_returns=1, timeout=timeout_s)
        more, _ = ray.wait(list(self._polls), num_returns=len(self._polls), timeout=0)
        events: list[tuple[str, Event]] = []
        for ref in {*finished, *more}:
            name = self._polls.pop(ref)
            try:
                events += [(name, event) for event in ray.get(ref)]
            except RayTaskError:
                raise  # a method of ours has raised: a bug, not a death
            except RayError as error:  # crashed, lost with its machine, ended for its memory, never placed
                is_by_machine = self._is_by_machine(name, error)
                self._forget(name)
                events.append((name, WorkerDied(_reason(error), is_by_machine)))
                continue
            self._poll_actor(name)
        return events

    def stop(self) -> None:
        """See ``WorkerPool``."""
        for name in list(self._actors):
            self._forget(name)

    def _start_one(self) -> str:
        name = f"worker-{self._num_started}"
        self._num_started += 1
        self._actors[name] = self._actor_class.remote(RayWorker, self._settings, str(Path.cwd()))
        self._nodes[name] = self._actors[name].call.remote("node")
        self._poll_actor(name)
        return name

    def _is_by_machine(self, name: str, error: RayError) -> bool:
        """Whether the worker has died because its machine is gone, as far as Ray knows by now."""
        if isinstance(error, RayActorError) and error.preempted:
            return True
        known, _ = ray.wait([self._nodes[name]], timeout=0)
        try:
            node = ray.get(self._nodes[name]) if known else None
        except RayError:  # it was gone before it could report where it was
            return False
        return any(each["NodeID"] == node and not each["Alive"] for each in ray.nodes())

    def _poll_actor(self, name: str) -> None:
        self._polls[self._actors[name].call.remote("poll", _ACTOR_POLL_S)] = name

    def _forget(self, name: str) -> None:
        """End the actor, which may be alive and only out of reach, and listen no more."""
        if actor := self._actors.pop(name, None):
            ray.kill(actor)
        self._nodes.pop(name, None)
        self._polls = {ref: owner for ref, owner in self._polls.items() if owner != name}


def _reason(error: RayError) -> str:
    """The last lines of Ray's error: how the process ended, or what the actor's constructor raised."""
    lines = str(error).strip().splitlines()
    if len(lines) > 1 and lines[-1].startswith("The actor never ran"):  # true of those that die while they start
        lines.pop()
    return lines[-1].strip()[:_MAX_REASON_CHARS] if lines else type(error).__name__
