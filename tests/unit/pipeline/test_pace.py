import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.storage.throttle import Pace


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_refusal_halves_the_limit_and_refusals_of_the_same_moment_count_as_one() -> None:
    clock = Clock()
    pace = Pace(64, clock=clock)
    pace.refused()
    pace.refused()
    assert (pace.limit, pace.num_refusals) == (32, 2)
    clock.now_s += 2
    pace.refused()
    assert pace.limit == 16
    assert pace.is_slowed


def test_one_request_at_a_time_always_goes_on() -> None:
    clock = Clock()
    pace = Pace(64, clock=clock)
    for _ in range(20):
        pace.refused()
        clock.now_s += 2
    assert pace.limit == 1
    with pace.slot():
        pass


def test_the_limit_grows_by_one_for_each_round_of_successes_up_to_its_bound() -> None:
    pace = Pace(4, clock=Clock())
    pace.refused()
    for _ in range(3):
        with pace.slot():
            pass
    assert pace.limit == 3
    for _ in range(50):
        with pace.slot():
            pass
    assert pace.limit == 4
    assert not pace.is_slowed


def test_requests_that_failed_or_were_refused_meanwhile_do_not_let_it_grow() -> None:
    pace = Pace(4, clock=Clock())
    pace.refused()
    for _ in range(9):
        with pytest.raises(OSError, match="broken"), pace.slot():
            raise OSError("broken")
        with pace.slot():
            pace.refused()  # boto3 tried again, and that went through
    assert pace.limit == 2


def test_no_more_requests_than_the_limit_are_under_way() -> None:
    pace = Pace(8, clock=Clock())
    pace.refused()
    lock, active, most = threading.Lock(), [0], [0]
    together = threading.Barrier(4)

    def request(number: int) -> None:
        with pace.slot():
            with lock:
                active[0] += 1
                most[0] = max(most[0], active[0])
            if number < 4:
                together.wait(timeout=30)  # four do get in at once
            with lock:
                active[0] -= 1

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(request, range(4)))
        assert most[0] == 4
        list(pool.map(request, range(4, 40)))
    assert most[0] <= pace.limit
