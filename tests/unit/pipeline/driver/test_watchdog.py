"""Who hangs and who has lived long enough, told from events on a clock of the test's own."""

from typing import Any

import pytest

from dimoo_core.errors import ConfigError
from pipeline.driver.watchdog import WorkerWatch
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import SegmentCommitted, WorkerDied, WorkerEnded, WorkerProgress, WorkerReady
from pipeline.protocol.settings import WorkerLife

MIB = 2**20


class Watched:
    """A watch with one worker that is ready, and the time."""

    def __init__(self, **limits: Any) -> None:
        self.now_s = 0.0
        self.watch = WorkerWatch(WorkerLife(**limits), lambda: self.now_s)
        self.watch.take("w", WorkerReady(1.0))

    def progress(self, num_rows: int = 0, silence_s: float = 0.0, memory_mib: int = 0) -> None:
        event = WorkerProgress(
            num_done=num_rows,
            num_failed=0,
            num_steps=0,
            num_tokens=0,
            engine_busy_s=0.0,
            engine_span_s=0.0,
            silence_s=silence_s,
            memory_bytes=memory_mib * MIB,
        )
        self.watch.take("w", event)

    def hung(self, after_s: float) -> list[str]:
        """Who hangs after more time, the driver looking all the while."""
        found: list[str] = []
        for _ in range(int(after_s)):
            self.now_s += 1.0
            found += [reason for _, reason in self.watch.look()[0]]
        return found

    def old(self) -> list[str]:
        self.now_s += 1.0
        return [reason for _, reason in self.watch.look()[1]]


def test_a_worker_that_says_nothing_hangs() -> None:
    watched = Watched(hang_timeout_s=60.0)
    assert watched.hung(59) == []
    assert watched.hung(1) == ["no heartbeat for 60 s (worker_life.hang_timeout_s)"]


def test_a_worker_that_says_anything_does_not_hang() -> None:
    watched = Watched(hang_timeout_s=60.0)
    for _ in range(5):
        assert watched.hung(50) == []
        watched.progress()


def test_a_worker_one_of_whose_threads_hangs_is_found_though_the_others_go_on() -> None:
    watched = Watched(hang_timeout_s=60.0)
    watched.progress(silence_s=59.0)
    assert watched.hung(1) == []
    watched.progress(silence_s=61.0)
    assert watched.hung(1) == ["one of its threads hung for 61 s (worker_life.hang_timeout_s)"]


def test_a_driver_that_hung_itself_blames_nobody() -> None:
    watched = Watched(hang_timeout_s=60.0)
    watched.progress(silence_s=61.0)
    watched.now_s += 3600.0
    assert watched.watch.look() == ([], [])
    assert watched.hung(59) == []


@pytest.mark.parametrize("gone", [WorkerDied("killed"), None])
def test_a_worker_that_is_gone_is_not_watched(gone: WorkerDied | None) -> None:
    watched = Watched(hang_timeout_s=60.0)
    if gone:
        watched.watch.take("w", gone)
    else:
        watched.watch.forget("w")
    watched.watch.take("w", WorkerEnded())
    assert watched.hung(100) == []


def test_without_a_limit_nobody_hangs_and_nobody_is_old() -> None:
    watched = Watched(hang_timeout_s=None, max_growth_bytes=None)
    watched.progress(10**6, silence_s=1e6, memory_mib=10**6)
    assert watched.hung(100) == []
    assert watched.old() == []


def test_a_worker_that_has_run_its_rows_is_old_and_told_once() -> None:
    watched = Watched(max_rows=100)
    watched.progress(99)
    assert watched.old() == []
    watched.progress(100)
    assert watched.old() == ["100 rows (worker_life.max_rows)"]
    assert watched.old() == []


def test_a_worker_that_has_lived_its_time_is_old() -> None:
    watched = Watched(max_s=10.0, hang_timeout_s=None)
    assert watched.hung(8) == []
    assert watched.old() == []
    assert watched.old() == ["10 s (worker_life.max_s)"]


def test_what_a_worker_needs_for_its_first_segments_is_not_growth() -> None:
    watched = Watched(max_growth_bytes=100 * MIB)
    for memory_mib in (500, 900, 700):
        watched.progress(memory_mib=memory_mib)
        assert watched.old() == []
    for _ in range(2):
        watched.watch.take("w", SegmentCommitted("s", RunTotals(1, 0)))
    watched.progress(memory_mib=999)
    assert watched.old() == []
    watched.progress(memory_mib=1001)
    assert watched.old() == ["101 MiB memory growth (worker_life.max_growth_bytes)"]


@pytest.mark.parametrize("name", ["stop_deadline_s", "hang_timeout_s", "max_rows", "max_s", "max_growth_bytes"])
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be above 0, got 0"):
        WorkerLife(**{name: 0})
