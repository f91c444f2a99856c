"""Admission by tokens: no request waits for ever, none is lost when memory runs out."""

import pytest

from dimoo_core.errors import ConfigError
from dimoo_core.scheduler import Scheduler, Slot


def slot(num_tokens: int) -> Slot:
    """A place in the queue; the scheduler never looks at what is being decoded."""
    return Slot(decoding=None, num_tokens=num_tokens)  # type: ignore[arg-type]


def waiting(scheduler: Scheduler, *num_tokens: int) -> list[Slot]:
    slots = [slot(count) for count in num_tokens]
    scheduler.waiting.extend(slots)
    return slots


def test_requests_are_admitted_in_order_while_there_is_room() -> None:
    scheduler = Scheduler(100)
    slots = waiting(scheduler, 40, 50, 20)
    scheduler.admit(7.0)
    assert scheduler.running == slots[:2]
    assert list(scheduler.waiting) == slots[2:]
    assert scheduler.step_tokens == 90
    assert [each.admitted_at_s for each in slots] == [7.0, 7.0, None]


def test_a_large_request_lets_small_ones_pass() -> None:
    scheduler = Scheduler(100)
    first, large, small = waiting(scheduler, 60, 80, 30)
    scheduler.admit(0.0)
    assert scheduler.running == [first, small]
    assert list(scheduler.waiting) == [large]
    assert large.overtaken == 1


def test_a_request_larger_than_the_limit_runs_alone() -> None:
    scheduler = Scheduler(100)
    huge, small = waiting(scheduler, 500, 10)
    scheduler.admit(0.0)
    assert scheduler.running == [huge]
    scheduler.running.clear()
    scheduler.admit(0.0)
    assert scheduler.running == [small]


@pytest.mark.parametrize("arrivals_per_step", [1, 3, 20])
def test_no_request_is_overtaken_more_often_than_the_bound(arrivals_per_step: int) -> None:
    """A small request keeps running, so that the large one never has enough room; small ones keep coming."""
    scheduler = Scheduler(100, max_overtakes=8)
    large = slot(95)
    (running,) = waiting(scheduler, 10)
    scheduler.admit(0.0)
    scheduler.waiting.append(large)
    for _ in range(20):
        waiting(scheduler, *[5] * arrivals_per_step)
        scheduler.admit(0.0)
        scheduler.running = [running]
    assert large.overtaken == 8
    assert large in scheduler.waiting
    scheduler.running.clear()
    scheduler.admit(0.0)
    assert scheduler.running[0] is large


def test_shedding_keeps_the_older_half_and_the_order_of_the_rest() -> None:
    scheduler = Scheduler(1000)
    slots = waiting(scheduler, 10, 20, 30, 40, 50)
    scheduler.admit(1.0)
    late = waiting(scheduler, 5)
    scheduler.shed_half()
    assert scheduler.running == slots[:2]
    assert list(scheduler.waiting) == slots[2:] + late
    assert scheduler.max_step_tokens == 30
    scheduler.running.clear()
    scheduler.admit(2.0)
    assert slots[2].admitted_at_s == 1.0


def test_more_work_is_wanted_only_if_it_would_run_at_once() -> None:
    scheduler = Scheduler(100)
    assert scheduler.can_admit_more()
    waiting(scheduler, 100)
    assert not scheduler.can_admit_more()
    scheduler.admit(0.0)
    assert not scheduler.can_admit_more()
    scheduler.running = [slot(99)]
    assert scheduler.can_admit_more()


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"engine\.max_step_tokens must be at least 1, got 0"):
        Scheduler(0)
