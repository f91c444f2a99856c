"""Notices: who asks last, and how the time until the deadline is shared."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.protocol.shutdown import ShutdownRequest


def test_nothing_is_asked_for_before_a_shutdown_request() -> None:
    shutdown = ShutdownRequest(lambda: 0.0)
    assert (shutdown.is_requested, shutdown.has_deadline, shutdown.has_time_for_steps, shutdown.left_s) == (
        False,
        False,
        True,
        float("inf"),
    )


def test_without_a_deadline_there_is_all_the_time_that_is_needed() -> None:
    shutdown = ShutdownRequest(lambda: 0.0)
    shutdown.request()
    assert (shutdown.is_requested, shutdown.has_deadline, shutdown.has_time_for_steps, shutdown.left_s) == (
        True,
        False,
        True,
        float("inf"),
    )


@given(st.floats(0.1, 1e6), st.floats(0, 2))
def test_half_of_the_time_is_for_the_engine(deadline_s: float, share: float) -> None:
    now_s = [100.0]
    shutdown = ShutdownRequest(lambda: now_s[0])
    shutdown.request(deadline_s)
    now_s[0] += share * deadline_s
    assert shutdown.has_time_for_steps == (now_s[0] - 100.0 < deadline_s / 2)
    assert 0 <= shutdown.left_s <= deadline_s + 1e-9  # the clock does not begin at zero
    assert (shutdown.left_s == 0) == (now_s[0] >= 100.0 + deadline_s)


def test_a_deadline_comes_over_none_and_the_first_one_holds() -> None:
    shutdown = ShutdownRequest(lambda: 0.0)
    for deadline_s in (None, 20.0, 90.0, None):
        shutdown.request(deadline_s)
    assert shutdown.left_s == 20.0
