"""Workers as the coordinator sees them: named, fed with leases, followed through events.

``local_pool`` runs one worker in this process, ``ray_pool`` many in processes of their own. Importable without torch,
as is the coordinator: a driver that only hands out leases starts fast.
"""

import queue
from abc import ABC, abstractmethod
from collections.abc import Sequence

from pipeline.protocol.messages import Event, Lease


class WorkerPool(ABC):
    """Some workers. Names are never used twice: a worker that replaces a dead one has a name of its own."""

    @abstractmethod
    def start(self) -> list[str]:
        """Start the workers and return their names; they load their models meanwhile."""

    @abstractmethod
    def replace(self, name: str) -> str:
        """Start a worker in place of a dead one and return its name."""

    @property
    def can_replace(self) -> bool:
        """Whether a worker that has failed can be discarded and replaced; if not, its failure ends the run."""
        return False

    def discard(self, name: str) -> None:
        """End a worker that has failed, before it is replaced; asked of pools that can."""
        raise NotImplementedError(name)

    @abstractmethod
    def assign(self, name: str, lease: Lease) -> None:
        """Give a worker one more segment. Does nothing if it is dead: its death is or will be an event."""

    @abstractmethod
    def close(self, name: str) -> None:
        """Let a worker know that it gets nothing more."""

    @abstractmethod
    def drain(self, name: str, deadline_s: float | None) -> None:
        """Ask a worker to end early, gracefully; it answers with ``WorkerDraining`` and ``WorkerDrained``.

        Args:
            deadline_s: When it has to be gone; None: when it has finished what it has begun.
        """

    @abstractmethod
    def commit_held(self, name: str) -> None:
        """Have a worker commit what it holds back for a streak of failures. Does nothing if it is dead."""

    @abstractmethod
    def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
        """Events of workers since the last call, waiting at most ``timeout_s`` for the first."""

    @abstractmethod
    def stop(self) -> None:
        """End every worker now; rows in flight are given up."""


def drain(events: "queue.SimpleQueue[Event]", timeout_s: float) -> list[Event]:
    """Everything in the queue, after waiting for the first entry."""
    taken: list[Event] = []
    try:
        taken.append(events.get(timeout=timeout_s))
        while True:
            taken.append(events.get_nowait())
    except queue.Empty:
        return taken
