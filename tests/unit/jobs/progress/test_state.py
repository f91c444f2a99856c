"""What a driver knows of a run in progress: counts, rates, the time to go."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from jobs.progress.state import ProgressState
from jobs.text import duration
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import SegmentCommitted, SegmentRepeated, WorkerDied, WorkerEnded, WorkerReady
from tests.support.progress import Clock, state_of, worked


def test_nothing_has_happened_at_first() -> None:
    state = state_of(num_resumed=10, num_resumed_failed=1)
    assert state.line() == "10/100 rows, 2 workers loading the model"
    assert (state.num_completed, state.rows_per_s, state.num_tokens, state.engine_busy_ratio) == (10, 0, 0, None)


def test_the_counts_of_all_workers_are_added_up_every_few_seconds_and_not_at_each_event(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, num_sums = state_of(), 0

    def counted() -> Iterator[tuple[int, int]]:
        nonlocal num_sums
        num_sums += 1
        return iter(())

    monkeypatch.setattr(state, "_ahead", counted)
    for number in range(1000):
        clock.now_s += 0.02
        state.take(f"worker-{number}", worked(1))
    assert 2 <= num_sums <= 4  # in 20 s


def test_rows_count_when_they_are_settled_and_once(clock: Clock) -> None:
    state = state_of()
    state.take("a", WorkerReady(1.0))
    state.take("a", worked(6, 1))
    assert state.num_completed == 7
    state.take("a", SegmentCommitted("0-0", RunTotals(4, 1)))
    assert state.num_completed == 7
    state.take("a", worked(9, 1))
    assert state.num_completed == 10
    state.take("b", SegmentCommitted("0-1", RunTotals(5, 0)))
    assert state.num_completed == 15
    assert state.num_failed == 1


def test_failures_count_when_their_rows_are_settled_and_once(clock: Clock) -> None:
    state = state_of(num_resumed=10, num_resumed_failed=1)
    state.take("a", WorkerReady(1.0))
    clock.now_s += 1
    state.take("a", worked(6, 2))
    state.take("b", worked(1, 1))
    assert (state.num_completed_failed, state.num_failed) == (4, 1)
    assert "20/100 rows, 4 failed" in state.line()
    state.take("a", SegmentCommitted("0-0", RunTotals(6, 2)))
    assert (state.num_completed_failed, state.num_failed) == (4, 3)
    state.take("b", SegmentRepeated("0-0", RunTotals(1, 1)))
    assert (state.num_completed_failed, state.num_completed) == (3, 18)
    state.take("a", worked(6, 4))
    state.take("a", WorkerDied("killed"))
    assert (state.num_completed_failed, state.num_completed) == (3, 18)


def test_rows_that_another_worker_had_committed_before_are_not_counted_again(clock: Clock) -> None:
    state = state_of()
    state.take("a", SegmentCommitted("0-0", RunTotals(4, 0)))
    state.take("b", worked(4))
    state.take("b", SegmentRepeated("0-0", RunTotals(4, 0)))
    assert state.num_completed == 4


def test_rows_that_a_dead_worker_had_not_committed_are_to_be_done_again(clock: Clock) -> None:
    state = state_of()
    state.take("a", WorkerReady(1.0))
    state.take("a", SegmentCommitted("0-0", RunTotals(4, 0)))
    state.take("a", worked(9))
    state.take("a", WorkerDied("killed"))
    clock.now_s += 1
    assert state.num_completed == 4
    assert "1 worker lost and replaced" in state.line()
    assert (state.num_ready, state.num_lost) == (0, 1)


def test_a_worker_may_die_before_it_is_ready() -> None:
    state = state_of()
    state.take("a", WorkerDied("killed"))
    assert (state.num_ready, state.num_lost) == (0, 1)
    assert "loading the model" in state.line()


def test_settled_rows_are_never_more_than_there_are(clock: Clock) -> None:
    state = state_of(num_rows=10)
    state.take("a", worked(8))
    state.take("b", worked(8))
    assert state.num_completed == 10


def test_the_rate_is_of_this_start_and_the_rest_is_estimated_by_it(clock: Clock) -> None:
    state = state_of(num_rows=1000, num_resumed=500)
    state.take("a", WorkerReady(30.0))
    clock.now_s += 10
    state.take("a", worked(20))
    assert state.rows_per_s == 2.0
    assert state.line() == "520/1000 rows, 0 failed, 2.00 rows/s, ETA 4:00 ± 1:47"


@pytest.mark.parametrize(("num_done", "seconds", "is_told"), [(2, 60, False), (90, 9, False), (3, 10, True)])
def test_no_time_to_go_is_told_by_few_rows_or_seconds(num_done: int, seconds: int, is_told: bool, clock: Clock) -> None:
    state = state_of(num_resumed=5)
    state.take("a", WorkerReady(1.0))
    clock.now_s += seconds
    state.take("a", worked(num_done))
    assert (state.eta_s is not None) == (state.eta_error_s is not None) == ("ETA" in state.line()) == is_told
    assert "rows/s" in state.line()


def test_the_time_to_go_is_as_unsure_at_first_as_rows_are_few(clock: Clock) -> None:
    state = state_of()
    state.take("a", WorkerReady(1.0))
    clock.now_s += 16
    state.take("a", worked(16))
    assert state.line().endswith("ETA 1:24 ± 0:42")


def test_the_time_to_go_is_as_sure_as_rows_get_done_evenly(clock: Clock) -> None:
    even, uneven = state_of(num_rows=10_000), state_of(num_rows=10_000)
    for state in (even, uneven):
        state.take("a", WorkerReady(1.0))
    done = 0
    for number in range(20):
        even.take("a", worked(10 * number))
        uneven.take("a", worked(done))
        done += 19 if number % 2 else 1
        clock.now_s += 5
    assert even.eta_error_s == pytest.approx(0.0, abs=1e-6)
    assert even.line().endswith("± 0:00")
    # rates alternate between 0.2 and 3.8 a second over 19 intervals: twice the standard error is 0.42 of the mean
    assert uneven.eta_s is not None
    assert uneven.eta_error_s == pytest.approx(0.42 * uneven.eta_s, rel=0.1)


def test_the_engines_share_of_time_is_that_of_all_workers() -> None:
    state = state_of()
    state.take("a", worked(1, busy_s=3.0, span_s=4.0))
    state.take("b", worked(1, busy_s=1.0, span_s=4.0))
    assert state.engine_busy_ratio == 0.5
    assert state.num_tokens == 20


def test_the_cache_hit_ratio_is_the_share_of_tokens_that_were_not_computed() -> None:
    state = state_of()
    assert state.cache_hit_ratio is None
    state.take("a", replace(worked(1), num_tokens=30, num_tokens_reused=50))
    state.take("b", replace(worked(1), num_tokens=20, num_tokens_reused=0))
    assert state.cache_hit_ratio == 0.5


def test_every_worker_costs_from_the_start_on(clock: Clock) -> None:
    state = ProgressState(num_rows=1, num_resumed=0, num_workers=2, num_resumed_failed=0, worker_hour_usd=3.0)
    clock.now_s += 1800
    assert state.cost_usd == pytest.approx(3.0)
    assert state_of().cost_usd is None


def test_the_latest_images_are_the_newest_first_and_few() -> None:
    state = state_of()
    for name, key in [
        ("a", None),
        ("a", "0"),
        ("b", "1"),
        ("a", "0"),
        *(("a", str(number)) for number in range(2, 12)),
    ]:
        state.take(name, replace(worked(1), latest_image=key))
    assert state.latest_images() == tuple(str(number) for number in range(11, 3, -1))


def test_words_that_change_no_count_are_taken() -> None:
    state = state_of()
    state.take("a", WorkerEnded())
    assert state.num_completed == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_durations_are_hours_minutes_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text
