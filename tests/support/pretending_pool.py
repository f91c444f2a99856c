"""Workers that only pretend, for the coordinator: they commit, die or fail as a test says."""

from collections import deque
from collections.abc import Callable, Sequence

from manifests.files.plan import ManifestFile, Segment, plan_shards
from pipeline.driver.coordinator import Coordinator, CoordinatorReport
from pipeline.driver.leases import LeaseBook
from pipeline.driver.pool import WorkerPool
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import (
    Event,
    Lease,
    SegmentCommitted,
    WorkerDied,
    WorkerDrained,
    WorkerDraining,
    WorkerEnded,
    WorkerProgress,
    WorkerReady,
)

Answer = Callable[[str, Lease], Event | None]
"""What a worker does with a lease: the event that it tells, None for nothing."""


def segments(number: int) -> list[Segment]:
    """So many segments of one row each."""
    return list(plan_shards([ManifestFile("m.parquet", 1, number, "d")], shard_rows=1000, segment_rows=1))


def commit(name: str, lease: Lease) -> Event | None:
    """The answer of a worker that commits whatever it is given."""
    return SegmentCommitted(lease.segment.name, RunTotals(1, 0))


def progress(num_done: int) -> WorkerProgress:
    """The signs of progress of a worker that has done so many rows."""
    return WorkerProgress(
        num_done=num_done, num_failed=0, num_steps=1, num_tokens=10 * num_done, engine_busy_s=1.0, engine_span_s=1.0
    )


class PretendingPool(WorkerPool):
    """Workers that answer one lease a poll, in the order in which leases were assigned."""

    def __init__(self, num_workers: int, answer: Answer) -> None:
        self._num_workers = num_workers
        self._answer = answer
        self._leases: dict[str, deque[Lease]] = {}
        self._events: deque[tuple[str, Event]] = deque()
        self._num_started = 0
        self.most_held = 0
        self.is_stopped = False
        self.given: list[tuple[str, str]] = []
        self.drained: list[tuple[str, float | None]] = []
        self.settled: list[str] = []

    def start(self) -> list[str]:
        return [self._start_one() for _ in range(self._num_workers)]

    def replace(self, name: str) -> str:
        assert name not in self._leases
        return self._start_one()

    can_replace = False

    def discard(self, name: str) -> None:
        raise AssertionError(name)

    def assign(self, name: str, lease: Lease) -> None:
        assert not self.is_stopped
        self.given.append((name, lease.segment.name))
        if name in self._leases:  # else its death is an event that was not taken yet
            self._leases[name].append(lease)
            self.most_held = max(self.most_held, len(self._leases[name]))

    def close(self, name: str) -> None:
        if self._leases.get(name):
            return  # busy with what another has committed
        self._events += [(name, progress(7)), (name, WorkerEnded())]

    def drain(self, name: str, deadline_s: float | None) -> None:
        self.drained.append((name, deadline_s))
        self._leases.pop(name, None)
        self._events += [(name, WorkerDraining()), (name, WorkerDrained())]

    def commit_held(self, name: str) -> None:
        self.settled.append(name)

    def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
        if not self._events:
            for name, leases in list(self._leases.items()):
                if leases and (event := self._answer(name, leases[0])) is not None:
                    leases.popleft()
                    self._events.append((name, event))
                    if isinstance(event, WorkerDied):
                        del self._leases[name]
        return [self._events.popleft()] if self._events else []

    def stop(self) -> None:
        self.is_stopped = True

    def _start_one(self) -> str:
        name = f"worker-{self._num_started}"
        self._num_started += 1
        self._leases[name] = deque()
        self._events.append((name, WorkerReady(0.1)))
        return name


def run(
    pool: PretendingPool, num_segments: int, clock: Callable[[], float] = lambda: 0.0
) -> tuple[CoordinatorReport, list[tuple[str, Event]]]:
    heard: list[tuple[str, Event]] = []
    book = LeaseBook(segments(num_segments), clock=clock)
    return Coordinator(pool, book, lambda name, event: heard.append((name, event))).run(), heard
