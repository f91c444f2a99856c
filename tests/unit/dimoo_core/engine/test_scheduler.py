"""Steps filled up to a budget: no request waits for ever, none is lost when memory runs out."""

from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dimoo_core.engine.scheduler import RequestState, Scheduler
from dimoo_core.errors import ConfigError
from tests.support.paced_request import paced_state, take_step


def waiting(scheduler: Scheduler, *num_tokens: int, num_bytes: int = 0) -> list[RequestState]:
    states = [paced_state(count, num_bytes=num_bytes) for count in num_tokens]
    scheduler.waiting.extend(states)
    return states


def test_requests_are_admitted_in_order_while_there_is_room() -> None:
    scheduler = Scheduler(100)
    states = waiting(scheduler, 40, 50, 20)
    assert scheduler.next_step(7.0) == scheduler.running == states[:2]
    assert list(scheduler.waiting) == states[2:]
    assert scheduler.step_tokens == 90
    assert [each.admitted_at_s for each in states] == [7.0, 7.0, None]


def test_a_large_request_lets_small_ones_pass() -> None:
    scheduler = Scheduler(100)
    first, large, small = waiting(scheduler, 60, 80, 30)
    assert scheduler.next_step(0.0) == [first, small]
    assert list(scheduler.waiting) == [large]
    assert large.overtaken == 1


def test_a_request_larger_than_the_limit_runs_alone() -> None:
    scheduler = Scheduler(100)
    huge, small = waiting(scheduler, 500, 10)
    assert scheduler.next_step(0.0) == [huge]
    scheduler.running.clear()
    assert scheduler.next_step(0.0) == [small]


@pytest.mark.parametrize("arrivals_per_step", [1, 3, 20])
def test_no_request_is_overtaken_more_often_than_the_bound(arrivals_per_step: int) -> None:
    """A small request keeps running, so that the large one never has enough room; small ones keep coming."""
    scheduler = Scheduler(100, max_overtakes=8)
    large = paced_state(95)
    (running,) = waiting(scheduler, 10)
    scheduler.next_step(0.0)
    scheduler.waiting.append(large)
    for _ in range(20):
        waiting(scheduler, *[5] * arrivals_per_step)
        scheduler.next_step(0.0)
        scheduler.running = [running]
    assert large.overtaken == 8
    assert large in scheduler.waiting
    scheduler.running.clear()
    assert scheduler.next_step(0.0)[0] is large


def test_what_requests_keep_stays_within_the_budget_of_bytes() -> None:
    scheduler = Scheduler(1000, max_cache_bytes=100)
    first, second, third = waiting(scheduler, 1, 1, 1, num_bytes=40)
    (keeps_nothing,) = waiting(scheduler, 1)
    assert scheduler.next_step(0.0) == [first, second, keeps_nothing]
    assert scheduler.cache_bytes == 80
    scheduler.running.remove(first)
    assert third in scheduler.next_step(0.0)


def test_a_request_that_keeps_more_than_the_budget_of_bytes_runs_when_no_other_keeps_any() -> None:
    scheduler = Scheduler(1000, max_cache_bytes=100)
    (small,) = waiting(scheduler, 1, num_bytes=10)
    (greedy,) = waiting(scheduler, 1, num_bytes=500)
    (plain,) = waiting(scheduler, 1)
    assert scheduler.next_step(0.0) == [small, plain]
    scheduler.running.remove(small)
    assert scheduler.next_step(0.0) == [plain, greedy]
    assert not scheduler.can_admit_more()


def test_nothing_joins_while_running_requests_have_to_be_left_out() -> None:
    scheduler = Scheduler(100)
    first, second = paced_state(50, 10, 60, 10), paced_state(50, 10, 60, 10)
    scheduler.waiting.extend((first, second))
    assert [list(take_step(scheduler)) for _ in range(2)] == [[first, second]] * 2
    (late,) = waiting(scheduler, 5)
    assert take_step(scheduler) == {first: 60}
    assert take_step(scheduler) == {first: 10, second: 60, late: 5}


def test_refreshes_spread_over_the_steps_and_fill_them() -> None:
    """Requests that compute everything each tenth step: four times as many run as would fit together."""
    cycle = [100, *[10] * 9]
    scheduler = Scheduler(200)
    states = [paced_state(*cycle * 4) for _ in range(60)]
    scheduler.waiting.extend(states)
    tokens: list[int] = []
    while scheduler.waiting:
        tokens.append(sum(take_step(scheduler).values()))
    assert max(tokens) <= 200
    assert mean(tokens) > 0.85 * 200


_requests = st.lists(
    st.tuples(
        st.integers(0, 30),  # the step before which it arrives
        st.lists(st.integers(1, 130), min_size=1, max_size=12),
        st.sampled_from([0, 0, 10, 60, 200]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=200, deadline=None, print_blob=True)
@given(requests=_requests, max_step_interval=st.integers(4, 12), max_step_tokens=st.sampled_from([20, 100, 150]))
def test_every_request_makes_a_step_within_the_interval_and_no_step_is_too_large(
    requests: list[tuple[int, list[int], int]], max_step_interval: int, max_step_tokens: int
) -> None:
    scheduler = Scheduler(max_step_tokens, 100, max_step_interval)
    arrivals = sorted(requests, key=lambda request: request[0])
    states: list[RequestState] = []
    last_step: dict[int, int] = {}
    steps_taken = [0] * len(arrivals)
    number = 0
    while len(states) < len(arrivals) or scheduler.waiting or scheduler.running:
        while len(states) < len(arrivals) and arrivals[len(states)][0] <= number:
            _, tokens, num_bytes = arrivals[len(states)]
            states.append(paced_state(*tokens, num_bytes=num_bytes))
            scheduler.waiting.append(states[-1])
        has_work = bool(scheduler.running or scheduler.waiting)
        step = take_step(scheduler)
        assert bool(step) == has_work
        assert len(step) <= 1 or sum(step.values()) <= max_step_tokens
        keeping = [state.num_bytes for state in {*step, *scheduler.running} if state.num_bytes]
        assert len(keeping) <= 1 or sum(keeping) <= 100
        for state in step:
            index = states.index(state)
            assert number - last_step.get(index, number) <= max_step_interval
            last_step[index] = number
            steps_taken[index] += 1
        number += 1
    assert steps_taken == [len(tokens) for _, tokens, _ in arrivals]


def test_a_step_that_did_not_fit_is_halved_and_the_youngest_go_if_they_are_too_many_for_that() -> None:
    scheduler = Scheduler(1000, max_step_interval=4)
    states = waiting(scheduler, 10, 20, 30, 40, 50)
    step = scheduler.next_step(1.0)
    late = waiting(scheduler, 5)
    shed = scheduler.halve_steps(step)
    assert scheduler.max_step_tokens == 75
    assert shed == states[3:]  # peaks may be as large as one step
    scheduler.preempt(shed)
    assert scheduler.running == states[:3]
    assert list(scheduler.waiting) == states[3:] + late
    scheduler.running.clear()
    scheduler.next_step(2.0)
    assert states[3].admitted_at_s == 1.0


def test_more_work_is_wanted_only_if_it_would_run_at_once() -> None:
    scheduler = Scheduler(100)
    assert scheduler.can_admit_more()
    waiting(scheduler, 100)
    assert not scheduler.can_admit_more()
    scheduler.next_step(0.0)
    assert not scheduler.can_admit_more()
    scheduler.running = [paced_state(99)]
    assert scheduler.can_admit_more()


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"engine\.max_step_tokens must be at least 1, got 0"):
        Scheduler(0)
