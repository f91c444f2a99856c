"""The coordinator with workers that only pretend: they commit, die or fail as a test says."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimoo_core.errors import ConfigError, WeightsError
from manifests.errors import ManifestError
from manifests.shard import ManifestFile, Segment, plan_shards
from pipeline.coordinator import LEASES_PER_WORKER, MAX_LOSSES, Coordinator, CoordinatorReport
from pipeline.errors import RunFailed, RunStopped, StoreError
from pipeline.event import (
    Event,
    SegmentCommitted,
    SegmentRepeated,
    WorkerDied,
    WorkerDrained,
    WorkerDraining,
    WorkerEnded,
    WorkerFailed,
    WorkerProgress,
    WorkerReady,
)
from pipeline.lease import Lease, LeaseBook
from pipeline.local_store import LocalStore
from pipeline.notice import StopNotice
from pipeline.outcome import RunTotals
from pipeline.pool import WorkerPool
from pipeline.suspect import SuspectRecord, Suspicion
from pipeline.worker_life import WorkerLife
from pipeline.worker_watch import WorkerWatch

Answer = Callable[[str, Lease], Event | None]


def segments(number: int) -> list[Segment]:
    return list(plan_shards([ManifestFile("m.parquet", 1, number, "d")], shard_rows=1000, segment_rows=1))


def commit(name: str, lease: Lease) -> Event | None:
    return SegmentCommitted(lease.segment.name, RunTotals(1, 0))


def progress(num_done: int) -> WorkerProgress:
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


def test_every_segment_is_given_out_and_counted_once() -> None:
    pool = PretendingPool(3, commit)
    report, _ = run(pool, 20)
    assert report == CoordinatorReport(RunTotals(20, 0), 0)
    assert sorted(segment for _, segment in pool.given) == [segment.name for segment in segments(20)]
    assert pool.most_held == LEASES_PER_WORKER


def test_one_worker_gets_as_many_small_segments_as_make_up_the_rows_that_it_is_to_hold() -> None:
    pool = PretendingPool(1, commit)
    rows = sum(segment.num_rows for segment in segments(9)[:5])
    book = LeaseBook(segments(9), num_ahead=9)
    Coordinator(pool, book, lambda name, event: None, rows_ahead=rows).run()
    assert pool.most_held == 5
    assert [segment for _, segment in pool.given] == [segment.name for segment in segments(9)]


def test_among_several_workers_small_segments_are_given_out_sparingly_and_to_those_that_are_ready() -> None:
    pool = PretendingPool(2, commit)
    given_when_ready: list[Counter[str]] = []
    book = LeaseBook(segments(20), num_ahead=20)

    def listen(name: str, event: Event) -> None:
        if isinstance(event, WorkerReady) or len(given_when_ready) == 2:
            given_when_ready.append(Counter(name for name, _ in pool.given))

    Coordinator(pool, book, listen, rows_ahead=1000).run()
    assert given_when_ready == [
        {"worker-0": 2, "worker-1": 2},
        {"worker-0": 7, "worker-1": 2},  # 11 are left
        {"worker-0": 7, "worker-1": 5},
    ]
    assert len(pool.given) == 20


def test_few_segments_spread_over_all_workers() -> None:
    pool = PretendingPool(3, commit)
    run(pool, 3)
    assert sorted(name for name, _ in pool.given) == ["worker-0", "worker-1", "worker-2"]


def test_nothing_to_do_ends_at_once() -> None:
    report, _ = run(PretendingPool(2, commit), 0)
    assert report == CoordinatorReport(RunTotals(), 0)


def test_the_final_counts_of_each_worker_are_heard() -> None:
    _, heard = run(PretendingPool(2, commit), 4)
    last = {name: event for name, event in heard if isinstance(event, WorkerProgress)}
    assert last == {"worker-0": progress(7), "worker-1": progress(7)}


def test_totals_are_those_of_the_parts_that_stand() -> None:
    pool = PretendingPool(1, lambda name, lease: SegmentCommitted(lease.segment.name, RunTotals(2, 3)))
    assert run(pool, 4)[0].totals == RunTotals(8, 12)


def test_the_last_segments_of_a_slow_worker_are_done_by_others_too_and_count_once() -> None:
    def answer(name: str, lease: Lease) -> Event | None:
        return None if name == "worker-0" else commit(name, lease)

    pool = PretendingPool(2, answer)
    report, _ = run(pool, 6, clock=count(step=60).__next__)
    assert report == CoordinatorReport(RunTotals(6, 0), 0)
    slow = {segment for name, segment in pool.given if name == "worker-0"}
    assert len(slow) == LEASES_PER_WORKER
    assert slow < {segment for name, segment in pool.given if name == "worker-1"}


def test_a_segment_that_comes_in_twice_is_heard_as_repeated() -> None:
    class TwiceTold(PretendingPool):
        def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
            return [each for each in super().poll(timeout_s) for _ in range(2)]

    report, heard = run(TwiceTold(1, commit), 3)
    assert report.totals == RunTotals(3, 0)
    told = [type(event) for _, event in heard if isinstance(event, SegmentCommitted | SegmentRepeated)]
    assert told == [SegmentCommitted, SegmentRepeated] * 3


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
    record = SuspectRecord(LocalStore(str(tmp_path)))
    bad, seen = segments(6)[2].name, list[Suspicion | None]()

    def die_once(name: str, lease: Lease) -> Event | None:
        if lease.segment.name != bad:
            return commit(name, lease)
        seen.append(lease.suspicion)
        if len(seen) == 1:
            return WorkerDied("killed")
        assert record.of(bad) == Suspicion().after_death("killed")
        return commit(name, lease)

    pool = PretendingPool(1, die_once)
    report = Coordinator(pool, LeaseBook(segments(6)), lambda name, event: None, suspects=record).run()
    assert report == CoordinatorReport(RunTotals(6, 0), 1)
    assert seen == [None, Suspicion().after_death("killed")]
    assert pool.given[-1][1] in {segment.name for segment in segments(6)[2:4]}


def test_of_many_small_segments_those_that_a_dead_worker_held_are_suspect_and_no_others(tmp_path: Path) -> None:
    record = SuspectRecord(LocalStore(str(tmp_path)))

    def die_at_third(name: str, lease: Lease) -> Event | None:
        is_third = lease.segment.name == segments(20)[2].name
        return WorkerDied("killed") if is_third and name == "worker-0" else commit(name, lease)

    pool = PretendingPool(1, die_at_third)
    book = LeaseBook(segments(20), num_ahead=20)
    report = Coordinator(pool, book, lambda name, event: None, suspects=record, rows_ahead=5).run()
    assert report == CoordinatorReport(RunTotals(20, 0), 1)
    held = [segment.name for segment in segments(20)[2:7]]  # two are committed, five held
    assert sorted(record.all()) == held
    assert [segment for _, segment in pool.given[-5:]] == held


def test_an_engine_that_fails_is_as_a_death_where_the_worker_can_be_replaced(tmp_path: Path) -> None:
    record = SuspectRecord(LocalStore(str(tmp_path)))

    class Replacing(PretendingPool):
        can_replace = True

        def discard(self, name: str) -> None:
            del self._leases[name]

    def fail_once(name: str, lease: Lease) -> Event | None:
        return WorkerFailed(RunFailed("CUDA error"), ("row0",)) if name == "worker-0" else commit(name, lease)

    pool = Replacing(1, fail_once)
    report = Coordinator(pool, LeaseBook(segments(1)), lambda name, event: None, suspects=record).run()
    assert report == CoordinatorReport(RunTotals(1, 0), 1)
    assert record.of(segments(1)[0].name) == Suspicion().after_death("CUDA error", "engine")


def test_workers_that_all_die_end_the_run() -> None:
    pool = PretendingPool(2, lambda name, lease: WorkerDied("no torch"))
    with pytest.raises(RunFailed, match=f"{MAX_LOSSES + 2} workers died without committing anything"):
        run(pool, 12)


@pytest.mark.parametrize("error", [ConfigError("no cuda"), WeightsError("no tensor"), ManifestError("cut off")])
def test_what_was_asked_for_wrongly_is_told_as_it_is(error: Exception) -> None:
    pool = PretendingPool(2, lambda name, lease: WorkerFailed(error))  # type: ignore[arg-type]
    with pytest.raises(type(error)) as caught:
        run(pool, 3)
    assert caught.value is error
    assert pool.is_stopped


def test_another_failure_ends_the_run_with_the_rows_that_were_in_the_engine() -> None:
    store_error = StoreError("write", "s3://b/k", "NoSpace")
    pool = PretendingPool(2, lambda name, lease: WorkerFailed(store_error, tuple(f"row{n}" for n in range(30))))
    with pytest.raises(RunFailed) as caught:
        run(pool, 3)
    assert str(caught.value).startswith("cannot write s3://b/k: NoSpace (rows in the engine: row0, row1")
    assert "row19" in str(caught.value)
    assert "row20" not in str(caught.value)
    assert caught.value.__cause__ is store_error


def test_the_pool_is_stopped_when_listening_fails() -> None:
    pool = PretendingPool(1, commit)

    def interrupt(name: str, event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Coordinator(pool, LeaseBook(segments(2)), interrupt).run()
    assert pool.is_stopped


def test_a_notice_drains_every_worker_and_what_they_commit_meanwhile_counts() -> None:
    notice, heard = StopNotice(lambda: 0.0), list[Event]()

    def give_after_three(name: str, event: Event) -> None:
        heard.append(event)
        if sum(isinstance(each, SegmentCommitted) for each in heard) == 3:
            notice.give(20.0)

    pool = PretendingPool(2, commit)
    with pytest.raises(RunStopped, match=r"\Astopped\Z"):
        Coordinator(pool, LeaseBook(segments(12)), give_after_three, notice=notice).run()
    assert sorted(pool.drained) == [("worker-0", 20.0), ("worker-1", 20.0)]
    assert sum(isinstance(each, WorkerDrained) for each in heard) == 2
    assert pool.is_stopped


def test_a_worker_that_cannot_drain_is_named_when_the_run_stops() -> None:
    notice = StopNotice(lambda: 0.0)

    class Dying(PretendingPool):
        def drain(self, name: str, deadline_s: float | None) -> None:
            self._events.append((name, WorkerDied("killed")))

    def give(name: str, event: Event) -> None:
        notice.give(20.0)

    with pytest.raises(RunStopped, match="stopped, but not in good order: worker-0: killed"):
        Coordinator(Dying(1, commit), LeaseBook(segments(12)), give, notice=notice).run()


def test_a_machine_that_is_gone_with_its_workers_blames_no_row_however_often(tmp_path: Path) -> None:
    record = SuspectRecord(LocalStore(str(tmp_path)))

    def die_with_machine(name: str, lease: Lease) -> Event | None:
        is_lost = int(name.removeprefix("worker-")) < 10
        return WorkerDied("node lost", is_by_machine=True) if is_lost else commit(name, lease)

    report = Coordinator(
        PretendingPool(1, die_with_machine), LeaseBook(segments(4)), lambda name, event: None, suspects=record
    ).run()
    assert report == CoordinatorReport(RunTotals(4, 0), 10)
    assert record.all() == {}


def test_a_worker_that_hangs_is_ended_and_what_it_held_is_suspected(tmp_path: Path) -> None:
    record, now_s = SuspectRecord(LocalStore(str(tmp_path))), [0.0]

    class Hanging(PretendingPool):
        can_replace = True

        def discard(self, name: str) -> None:
            del self._leases[name]

        def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
            now_s[0] += 20.0
            return super().poll(timeout_s)

    pool = Hanging(1, lambda name, lease: None if name == "worker-0" else commit(name, lease))
    watch = WorkerWatch(WorkerLife(hang_timeout_s=60.0), lambda: now_s[0])
    report = Coordinator(pool, LeaseBook(segments(1)), lambda name, event: None, suspects=record, watch=watch).run()
    assert report == CoordinatorReport(RunTotals(1, 0), 1)
    found = record.of(segments(1)[0].name)
    assert found is not None
    assert found.failure_class == "timeout"
    assert "it has said nothing for" in found.reason


def test_a_worker_that_has_lived_long_enough_is_drained_and_replaced() -> None:
    class Replacing(PretendingPool):
        can_replace = True

        def discard(self, name: str) -> None:
            assert name not in self._leases

    def commit_and_tell(name: str, lease: Lease) -> Event | None:
        pool._events.append((name, progress(5)))
        return commit(name, lease)

    now_s = count(step=2.0)
    pool = Replacing(1, commit_and_tell)
    watch = WorkerWatch(WorkerLife(max_rows=5), now_s.__next__)
    report = Coordinator(pool, LeaseBook(segments(8)), lambda name, event: None, watch=watch).run()
    assert report == CoordinatorReport(RunTotals(8, 0), 0)
    assert ("worker-0", None) in pool.drained
    assert len(pool.drained) > 1


@pytest.mark.parametrize("last_word", [WorkerDrained(), WorkerDied("its machine was taken away")])
def test_what_a_drained_worker_hands_back_is_done_by_its_successor_and_not_suspected(
    last_word: Event, tmp_path: Path
) -> None:
    record = SuspectRecord(LocalStore(str(tmp_path)))

    class OnceDrained(PretendingPool):
        def discard(self, name: str) -> None:
            assert name == "worker-0"

        def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
            if self._num_started == 1 and self._leases.get("worker-0"):
                del self._leases["worker-0"]
                return [("worker-0", WorkerReady(0.1)), ("worker-0", WorkerDraining()), ("worker-0", last_word)]
            return super().poll(timeout_s)

    pool = OnceDrained(1, commit)
    report = Coordinator(pool, LeaseBook(segments(6)), lambda name, event: None, suspects=record).run()
    assert report == CoordinatorReport(RunTotals(6, 0), 0)
    assert record.all() == {}
    assert [name for name, _ in pool.given].count("worker-0") == LEASES_PER_WORKER


def test_a_draining_worker_is_given_nothing_more() -> None:
    class Draining(PretendingPool):
        def start(self) -> list[str]:
            names = super().start()
            self._events.appendleft(("worker-0", WorkerDraining()))
            return names

    pool = Draining(2, commit)
    assert run(pool, 12)[0].totals == RunTotals(12, 0)
    assert [name for name, _ in pool.given].count("worker-0") == LEASES_PER_WORKER


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
