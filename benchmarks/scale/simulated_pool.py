"""Many workers that only take time, on a clock of their own.

The clock runs on while the coordinator computes (the processor time of its thread is added), and jumps to the next
event when it waits. So an hour of a thousand workers takes as long as the coordinator works for them in that hour.
"""

import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from manifests.files.plan import Segment
from pipeline.driver.pool import WorkerPool
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import (
    Event,
    Lease,
    SegmentCommitted,
    WorkerDied,
    WorkerEnded,
    WorkerProgress,
    WorkerReady,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What the workers are like."""

    num_workers: int = 1000
    row_s: float = 1.0  # time for a row of a usual worker, its rows one after the other
    jitter_ratio: float = 0.3  # a segment takes so much longer or shorter, drawn evenly
    straggler_ratio: float = 0.05  # share of the workers that are slow, in [0, 1]
    straggler_slowness: float = 3.0  # by this factor
    deaths_per_hour: float = 0.01  # of one worker
    notice_s: float = 30.0  # from a death until it is heard of
    load_s: float = 120.0  # from a start until the model is loaded
    progress_s: float = 0.5  # from one sign of progress of a worker to the next
    seed: int = 0


@dataclass(slots=True)
class _Worker:
    slowness: float
    leases: deque[Lease] = field(default_factory=deque)
    is_ready: bool = False
    is_busy: bool = False
    num_done: int = 0


class SimulatedPool(WorkerPool):
    """Workers of a fleet.

    Args:
        fleet: What they are like.
        commit: Called for each segment that a worker ends; returns its rows, and whether it was the first to end it.

    Attributes:
        now_s: The clock.
        useful_s: Time of workers that went into segments which count.
        last_commit_s: When the last segment that counts was ended.
        num_deaths: Workers that died.
        coordinator_s: Processor time between calls.
        num_events: What was told to the coordinator.
    """

    def __init__(self, fleet: Fleet, commit: Callable[[Segment], tuple[RunTotals, bool]]) -> None:
        self._fleet = fleet
        self._commit = commit
        self._random = random.Random(fleet.seed)
        self._workers: dict[str, _Worker] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._heard: list[tuple[str, Event]] = []
        self._num_planned = 0
        self._num_started = 0
        self._mark_s = time.thread_time()
        self.now_s = 0.0
        self.useful_s = 0.0
        self.last_commit_s = 0.0
        self.num_deaths = 0
        self.coordinator_s = 0.0
        self.num_events = 0

    def clock(self) -> float:
        """The time."""
        return self.now_s

    def start(self) -> list[str]:
        """See ``WorkerPool``."""
        self._mark_s = time.thread_time()
        return [self._start_one() for _ in range(self._fleet.num_workers)]

    @property
    def can_replace(self) -> bool:
        """No: these workers die, they do not fail."""
        return False

    def discard(self, name: str) -> None:
        """Never needed."""
        raise RuntimeError(f"worker {name} did not fail")

    def replace(self, name: str) -> str:
        """See ``WorkerPool``."""
        return self._start_one()

    def assign(self, name: str, lease: Lease) -> None:
        """See ``WorkerPool``."""
        if worker := self._workers.get(name):
            worker.leases.append(lease)
            self._begin_next(name)

    def close(self, name: str) -> None:
        """See ``WorkerPool``."""
        self._heard.append((name, WorkerEnded()))

    def drain(self, name: str, deadline_s: float | None) -> None:
        """Never needed: nobody gives notice here."""
        raise AssertionError(name)

    def commit_held(self, name: str) -> None:
        """Never needed: no engine fails here."""
        raise AssertionError(name)

    def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
        """See ``WorkerPool``."""
        spent_s = time.thread_time() - self._mark_s
        self.coordinator_s += spent_s
        self.now_s += spent_s
        deadline_s = self.now_s + timeout_s
        self._run_until(self.now_s)
        while not self._heard and self._agenda and self._agenda[0][0] <= deadline_s:
            self._run_until(self._agenda[0][0])
        if not self._heard:
            self.now_s = deadline_s
        heard, self._heard = self._heard, []
        self.num_events += len(heard)
        self._mark_s = time.thread_time()
        return heard

    def stop(self) -> None:
        """See ``WorkerPool``."""
        self._workers.clear()

    def _run_until(self, until_s: float) -> None:
        while self._agenda and self._agenda[0][0] <= until_s:
            at_s, _, happen = heapq.heappop(self._agenda)
            self.now_s = max(self.now_s, at_s)
            happen()

    def _plan(self, delay_s: float, happen: Callable[[], None]) -> None:
        self._num_planned += 1
        heapq.heappush(self._agenda, (self.now_s + delay_s, self._num_planned, happen))

    def _start_one(self) -> str:
        name = f"worker-{self._num_started}"
        self._num_started += 1
        is_slow = self._random.random() < self._fleet.straggler_ratio
        self._workers[name] = _Worker(self._fleet.straggler_slowness if is_slow else 1.0)
        self._plan(self._fleet.load_s, lambda: self._get_ready(name))
        if self._fleet.deaths_per_hour:
            self._plan(self._random.expovariate(self._fleet.deaths_per_hour / 3600), lambda: self._die(name))
        return name

    def _get_ready(self, name: str) -> None:
        if worker := self._workers.get(name):
            worker.is_ready = True
            self._heard.append((name, WorkerReady(self._fleet.load_s)))
            self._begin_next(name)
            self._plan(self._random.uniform(0, self._fleet.progress_s), lambda: self._progress(name))

    def _progress(self, name: str) -> None:
        if worker := self._workers.get(name):
            self._heard.append((name, _progress(worker.num_done)))
            self._plan(self._fleet.progress_s, lambda: self._progress(name))

    def _die(self, name: str) -> None:
        if self._workers.pop(name, None):
            self.num_deaths += 1
            self._plan(self._fleet.notice_s, lambda: self._heard.append((name, WorkerDied("simulated"))))

    def _begin_next(self, name: str) -> None:
        worker = self._workers[name]
        if worker.is_ready and not worker.is_busy and worker.leases:
            worker.is_busy = True
            segment = worker.leases.popleft().segment
            jitter = self._random.uniform(1 - self._fleet.jitter_ratio, 1 + self._fleet.jitter_ratio)
            takes_s = segment.num_rows * self._fleet.row_s * worker.slowness * jitter
            self._plan(takes_s, lambda: self._end(name, segment, takes_s))

    def _end(self, name: str, segment: Segment, took_s: float) -> None:
        worker = self._workers.get(name)
        if worker is None:
            return
        totals, is_first = self._commit(segment)
        if is_first:
            self.useful_s += took_s
            self.last_commit_s = self.now_s
        worker.num_done += segment.num_rows
        worker.is_busy = False
        self._heard.append((name, SegmentCommitted(segment.name, totals)))
        self._begin_next(name)


def _progress(num_done: int) -> WorkerProgress:
    return WorkerProgress(
        num_done=num_done, num_failed=0, num_steps=num_done, num_tokens=num_done, engine_busy_s=1.0, engine_span_s=1.0
    )
