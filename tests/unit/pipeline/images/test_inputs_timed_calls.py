"""Calls that come back, raise, or hang."""

import threading
from collections.abc import Callable, Iterator

import pytest

from pipeline.images.inputs import CallAbandoned, TimedCalls


@pytest.fixture
def calls() -> Iterator[TimedCalls[int]]:
    calls: TimedCalls[int] = TimedCalls()
    yield calls
    calls.close()


def test_what_a_call_returns_or_raises_is_passed_on(calls: TimedCalls[int]) -> None:
    def fail() -> int:
        raise ValueError("no")

    assert calls.run(lambda: 3, 60.0) == 3
    with pytest.raises(ValueError, match="no"):
        calls.run(fail, 60.0)


def test_one_thread_serves_calls_that_come_back_one_after_the_other(calls: TimedCalls[int]) -> None:
    assert len({calls.run(threading.get_ident, 60.0) for _ in range(5)}) == 1


def test_a_call_that_hangs_is_given_up_and_others_go_on(calls: TimedCalls[int]) -> None:
    comes, came = threading.Event(), threading.Event()

    def hang() -> int:
        comes.wait()
        came.set()
        return 1

    with pytest.raises(CallAbandoned):
        calls.run(hang, 0.01)
    assert calls.run(lambda: 2, 60.0) == 2
    comes.set()
    assert came.wait(timeout=30)


@pytest.mark.parametrize("hangs", [lambda comes: comes.wait()])
def test_nothing_is_waited_for_when_all_is_over(hangs: Callable[[threading.Event], int]) -> None:
    comes = threading.Event()
    calls: TimedCalls[int] = TimedCalls(lambda: True)
    with pytest.raises(CallAbandoned):
        calls.run(lambda: hangs(comes), 3600.0)
    comes.set()
    calls.close()
