"""How the coordinator gives out segments and counts them, with workers that only pretend."""

from collections import Counter
from collections.abc import Sequence
from itertools import count

from pipeline.driver.coordinator import LEASES_PER_WORKER, Coordinator, CoordinatorReport
from pipeline.driver.leases import LeaseBook
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import (
    Event,
    Lease,
    SegmentCommitted,
    SegmentRepeated,
    WorkerProgress,
    WorkerReady,
)
from tests.support.pretending_pool import PretendingPool, commit, progress, run, segments


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


def test_the_final_counts_of_each_worker_are_received() -> None:
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


def test_a_segment_that_comes_in_twice_is_reported_as_repeated() -> None:
    class TwiceTold(PretendingPool):
        def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
            return [each for each in super().poll(timeout_s) for _ in range(2)]

    report, heard = run(TwiceTold(1, commit), 3)
    assert report.totals == RunTotals(3, 0)
    told = [type(event) for _, event in heard if isinstance(event, SegmentCommitted | SegmentRepeated)]
    assert told == [SegmentCommitted, SegmentRepeated] * 3
