"""What an engine's time went to, between its first and its last step."""

import queue
from contextlib import suppress

import pytest

from pipeline.worker.worker import EngineClock


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_every_second_between_the_first_and_the_last_step_is_accounted_for() -> None:
    time = Time()
    clock = EngineClock(time)
    with clock.wait():
        time.now_s += 100.0  # before the first step: start-up
    for step_s, between_s, wait_s in ((2.0, 0.5, 0.0), (3.0, 0.25, 1.0), (4.0, 0.0, 7.0)):
        with clock.step():
            time.now_s += step_s
        time.now_s += between_s
        with clock.wait():
            time.now_s += wait_s  # the last one is not followed by a step
    assert clock.busy_s == 9.0
    assert clock.waited_s == 1.0
    assert clock.span_s == 9.0 + 0.75 + 1.0


def test_nothing_has_passed_before_the_first_step_has_ended() -> None:
    time = Time()
    clock = EngineClock(time)
    with clock.step():
        time.now_s += 1.0
        assert clock.is_stepping
        assert clock.span_s == 0.0
    assert not clock.is_stepping
    assert clock.span_s == 1.0


def test_a_wait_that_ends_without_a_row_counts_and_a_step_that_fails_stays_open() -> None:
    time = Time()
    clock = EngineClock(time)
    with clock.step():
        time.now_s += 1.0
    with suppress(queue.Empty), clock.wait():
        time.now_s += 2.0
        raise queue.Empty
    with pytest.raises(ZeroDivisionError), clock.step():
        raise ZeroDivisionError
    assert clock.waited_s == 2.0
    assert clock.is_stepping
