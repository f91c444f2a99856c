import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.storage.throttle import ConcurrencyLimit


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_refusal_halves_the_limit_and_refusals_of_the_same_moment_count_as_one() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(64, clock=clock)
    limit.refused()
    limit.refused()
    assert (limit.limit, limit.num_refusals) == (32, 2)
    clock.now_s += 2
    limit.refused()
    assert limit.limit == 16
    assert limit.is_slowed


def test_one_request_at_a_time_always_continues() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(64, clock=clock)
    for _ in range(20):
        limit.refused()
        clock.now_s += 2
    assert limit.limit == 1
    with limit.slot():
        pass


def test_the_limit_grows_by_one_for_each_round_of_successes_up_to_its_bound() -> None:
    limit = ConcurrencyLimit(4, clock=Clock())
    limit.refused()
    for _ in range(3):
        with limit.slot():
            pass
    assert limit.limit == 3
    for _ in range(50):
        with limit.slot():
            pass
    assert limit.limit == 4
    assert not limit.is_slowed


def test_requests_that_failed_or_were_refused_meanwhile_do_not_let_it_grow() -> None:
    limit = ConcurrencyLimit(4, clock=Clock())
    limit.refused()
    for _ in range(9):
        with pytest.raises(OSError, match="broken"), limit.slot():
            raise OSError("broken")
        with limit.slot():
            limit.refused()  # boto3 tried again, and that went through
    assert limit.limit == 2


def test_no_more_requests_than_the_limit_are_under_way() -> None:
    limit = ConcurrencyLimit(8, clock=Clock())
    limit.refused()
    lock, active, most = threading.Lock(), [0], [0]
    together = threading.Barrier(4)

    def request(number: int) -> None:
        with limit.slot():
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
    assert most[0] <= limit.limit
