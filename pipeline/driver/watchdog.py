"""Which workers hang, and which have lived long enough: judged by their events and the time since the last one."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.protocol.messages import Event, SegmentCommitted, WorkerDied, WorkerDrained, WorkerProgress, WorkerReady
from pipeline.protocol.settings import WorkerLife

_LOOK_INTERVAL_S = 1.0
_MAX_PAUSE_S = 30.0
"""A driver that did not look for so long has hung itself, and knows nothing about its workers."""

_SETTLING_SEGMENTS = 2
"""Until a worker has committed so many, what it needs is what its work needs, not growth."""


@dataclass
class _Life:
    """What is known about one worker."""

    ready_s: float
    heard_s: float
    silence_s: float = 0.0
    num_rows: int = 0
    num_segments: int = 0
    steady_bytes: int = 0
    memory_bytes: int = 0
    is_dismissed: bool = False


class WorkerWatch:
    """Keeps a few numbers for each worker that has its model."""

    def __init__(self, life: WorkerLife, clock: Callable[[], float] = time.monotonic) -> None:
        self._life = life
        self._clock = clock
        self._lives: dict[str, _Life] = {}
        self._looked_s = clock()

    def take(self, name: str, event: Event) -> None:
        """Count an event in."""
        if isinstance(event, WorkerReady):
            self._lives[name] = _Life(self._clock(), self._clock())
        elif isinstance(event, WorkerDied | WorkerDrained):
            self._lives.pop(name, None)
        elif life := self._lives.get(name):
            life.heard_s = self._clock()
            if isinstance(event, SegmentCommitted):
                life.num_segments += 1
            elif isinstance(event, WorkerProgress):
                life.num_rows = event.num_done + event.num_failed
                life.silence_s = event.silence_s
                life.memory_bytes = event.memory_bytes
                if life.num_segments < _SETTLING_SEGMENTS:
                    life.steady_bytes = max(life.steady_bytes, event.memory_bytes)

    def forget(self, name: str) -> None:
        """The worker was ended."""
        self._lives.pop(name, None)

    def look(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Workers that hang, and those that have lived long enough, each with the reason; each of the latter once.

        Looks at every worker, so at most once per second.
        """
        now_s = self._clock()
        if now_s - self._looked_s < _LOOK_INTERVAL_S:
            return [], []
        if now_s - self._looked_s > _MAX_PAUSE_S:
            for life in self._lives.values():
                life.heard_s, life.silence_s = now_s, 0.0
        self._looked_s = now_s
        return list(self._hung(now_s)), list(self._old(now_s))

    def _hung(self, now_s: float) -> Iterator[tuple[str, str]]:
        limit_s = self._life.hang_timeout_s
        if limit_s is None:
            return
        for name, life in self._lives.items():
            if now_s - life.heard_s >= limit_s:
                yield name, f"no heartbeat for {now_s - life.heard_s:.0f} s (worker_life.hang_timeout_s)"
            elif life.silence_s >= limit_s:
                yield name, f"one of its threads hung for {life.silence_s:.0f} s (worker_life.hang_timeout_s)"

    def _old(self, now_s: float) -> Iterator[tuple[str, str]]:
        for name, life in self._lives.items():
            if not life.is_dismissed and (reason := self._reason_to_go(life, now_s)):
                life.is_dismissed = True
                yield name, reason

    def _reason_to_go(self, life: _Life, now_s: float) -> str | None:
        limits = self._life
        if limits.max_rows is not None and life.num_rows >= limits.max_rows:
            return f"{life.num_rows} rows (worker_life.max_rows)"
        if limits.max_s is not None and now_s - life.ready_s >= limits.max_s:
            return f"{now_s - life.ready_s:.0f} s (worker_life.max_s)"
        growth_bytes = life.memory_bytes - life.steady_bytes
        if limits.max_growth_bytes is not None and growth_bytes >= limits.max_growth_bytes and life.steady_bytes:
            return f"{growth_bytes / 2**20:.0f} MiB memory growth (worker_life.max_growth_bytes)"
        return None
