"""What the coordinator does about workers that die, fail or hang."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.driver.coordinator import MAX_LOSSES, Coordinator, CoordinatorReport
from pipeline.driver.leases import LeaseBook
from pipeline.driver.watchdog import WorkerWatch
from pipeline.errors import RunFailed
from pipeline.output.poison_segments import CrashHistory, PoisonRecord
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import (
    Event,
    Lease,
    WorkerDied,
    WorkerFailed,
)
from pipeline.protocol.settings import WorkerLife
from pipeline.storage.local import LocalStore
from tests.support.pretending_pool import PretendingPool, commit, run, segments


def test_what_a_dead_worker_held_is_done_by_others() -> None:
    def die_at_first(name: str, lease: Lease) -> Event | None:
        return WorkerDied("killed") if name == "worker-0" else commit(name, lease)

    pool = PretendingPool(2, die_at_first)
    report, _ = run(pool, 10)
    assert report == CoordinatorReport(RunTotals(10, 0), 1)
    assert {name for name, _ in pool.given} == {"worker-0", "worker-1", "worker-2"}


def test_a_machine_may_take_many_workers_with_it() -> None:
    def die_together(name: str, lease: Lease) -> Event | None:
        return WorkerDied("node lost") if int(name.removeprefix("worker-")) < 8 else commit(name, lease)

    report, _ = run(PretendingPool(8, die_together), 40)
    assert report == CoordinatorReport(RunTotals(40, 0), 8)


def test_a_segment_that_kills_worker_after_worker_ends_the_run_after_all_others_are_done() -> None:
    poison = segments(12)[4].name
    committed: list[str] = []

    def die_of_poison(name: str, lease: Lease) -> Event | None:
        if lease.segment.name == poison:
            return WorkerDied("out of memory")
        committed.append(lease.segment.name)
        return commit(name, lease)

    pool = PretendingPool(2, die_of_poison)
    with pytest.raises(RunFailed) as caught:
        run(pool, 12)
    assert poison in str(caught.value)
    assert "out of memory" in str(caught.value)
    assert len(committed) >= 10  # a segment that waits behind the poison in the same worker may stay open
    assert pool.is_stopped


def test_a_segment_that_killed_a_worker_is_remembered_and_done_last_by_a_worker_of_its_own(tmp_path: Path) -> None:
    record = PoisonRecord(LocalStore(str(tmp_path)))
    bad, seen = segments(6)[2].name, list[CrashHistory | None]()

    def die_once(name: str, lease: Lease) -> Event | None:
        if lease.segment.name != bad:
            return commit(name, lease)
        seen.append(lease.crash_history)
        if len(seen) == 1:
            return WorkerDied("killed")
        assert record.of(bad) == CrashHistory().after_death("killed")
        return commit(name, lease)

    pool = PretendingPool(1, die_once)
    report = Coordinator(pool, LeaseBook(segments(6)), lambda name, event: None, poison_segments=record).run()
    assert report == CoordinatorReport(RunTotals(6, 0), 1)
    assert seen == [None, CrashHistory().after_death("killed")]
    assert pool.given[-1][1] in {segment.name for segment in segments(6)[2:4]}


def test_of_many_small_segments_those_that_a_dead_worker_held_are_recorded_and_no_others(tmp_path: Path) -> None:
    record = PoisonRecord(LocalStore(str(tmp_path)))

    def die_at_third(name: str, lease: Lease) -> Event | None:
        is_third = lease.segment.name == segments(20)[2].name
        return WorkerDied("killed") if is_third and name == "worker-0" else commit(name, lease)

    pool = PretendingPool(1, die_at_third)
    book = LeaseBook(segments(20), num_ahead=20)
    report = Coordinator(pool, book, lambda name, event: None, poison_segments=record, rows_ahead=5).run()
    assert report == CoordinatorReport(RunTotals(20, 0), 1)
    held = [segment.name for segment in segments(20)[2:7]]  # two are committed, five held
    assert sorted(record.all()) == held
    assert [segment for _, segment in pool.given[-5:]] == held


def test_an_engine_that_fails_is_as_a_death_where_the_worker_can_be_replaced(tmp_path: Path) -> None:
    record = PoisonRecord(LocalStore(str(tmp_path)))

    class Replacing(PretendingPool):
        can_replace = True

        def discard(self, name: str) -> None:
            del self._leases[name]

    def fail_once(name: str, lease: Lease) -> Event | None:
        return WorkerFailed(RunFailed("CUDA error"), ("row0",)) if name == "worker-0" else commit(name, lease)

    pool = Replacing(1, fail_once)
    report = Coordinator(pool, LeaseBook(segments(1)), lambda name, event: None, poison_segments=record).run()
    assert report == CoordinatorReport(RunTotals(1, 0), 1)
    assert record.of(segments(1)[0].name) == CrashHistory().after_death("CUDA error", "engine")


def test_workers_that_all_die_end_the_run() -> None:
    pool = PretendingPool(2, lambda name, lease: WorkerDied("no torch"))
    with pytest.raises(RunFailed, match=f"{MAX_LOSSES + 2} workers died without committing anything"):
        run(pool, 12)


def test_a_machine_that_is_gone_with_its_workers_blames_no_row_however_often(tmp_path: Path) -> None:
    record = PoisonRecord(LocalStore(str(tmp_path)))

    def die_with_machine(name: str, lease: Lease) -> Event | None:
        is_lost = int(name.removeprefix("worker-")) < 10
        return WorkerDied("node lost", is_by_machine=True) if is_lost else commit(name, lease)

    report = Coordinator(
        PretendingPool(1, die_with_machine), LeaseBook(segments(4)), lambda name, event: None, poison_segments=record
    ).run()
    assert report == CoordinatorReport(RunTotals(4, 0), 10)
    assert record.all() == {}


def test_a_worker_that_hangs_is_ended_and_what_it_held_is_recorded(tmp_path: Path) -> None:
    record, now_s = PoisonRecord(LocalStore(str(tmp_path))), [0.0]

    class Hanging(PretendingPool):
        can_replace = True

        def discard(self, name: str) -> None:
            del self._leases[name]

        def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
            now_s[0] += 20.0
            return super().poll(timeout_s)

    pool = Hanging(1, lambda name, lease: None if name == "worker-0" else commit(name, lease))
    watch = WorkerWatch(WorkerLife(hang_timeout_s=60.0), lambda: now_s[0])
    report = Coordinator(
        pool, LeaseBook(segments(1)), lambda name, event: None, poison_segments=record, watch=watch
    ).run()
    assert report == CoordinatorReport(RunTotals(1, 0), 1)
    found = record.of(segments(1)[0].name)
    assert found is not None
    assert found.failure_class == "timeout"
    assert "no heartbeat for" in found.reason


@given(
    num_workers=st.integers(1, 4),
    num_segments=st.integers(0, 30),
    deaths=st.sets(st.tuples(st.integers(0, 12), st.integers(0, 29)), max_size=12),
    is_slow=st.booleans(),
)
def test_whoever_dies_every_segment_is_counted_once(
    num_workers: int, num_segments: int, deaths: set[tuple[int, int]], is_slow: bool
) -> None:
    def answer(name: str, lease: Lease) -> Event | None:
        is_last = (int(name.removeprefix("worker-")), lease.segment.first_row) in deaths
        return WorkerDied("killed") if is_last else commit(name, lease)

    pool = PretendingPool(num_workers, answer)
    clock = count(step=60).__next__ if is_slow else lambda: 0.0
    try:
        report, _ = run(pool, num_segments, clock)
    except RunFailed:
        assert len(deaths) >= MAX_LOSSES
    else:
        assert report.totals == RunTotals(num_segments, 0)
