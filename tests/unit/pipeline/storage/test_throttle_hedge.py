import threading
from collections.abc import Callable
from itertools import count

import pytest

from pipeline.storage.throttle import Hedge


def known(hedge: Hedge[int]) -> Hedge[int]:
    """With enough reads behind it to know what is usual."""
    for number in range(20):
        assert hedge.run(lambda number=number: number) == number
    return hedge


def stalled_at_first(release: threading.Event) -> Callable[[], int]:
    """Returns 0 when it is released, 1 at once when it is called again."""
    calls = count()

    def read() -> int:
        number = next(calls)
        if number == 0:
            release.wait()
        return number

    return read


def test_a_read_that_takes_unusually_long_is_asked_for_again() -> None:
    hedge, release = known(Hedge(min_delay_s=0.01)), threading.Event()
    assert hedge.run(stalled_at_first(release)) == 1
    assert hedge.num_hedged == 1
    release.set()


def test_before_it_is_known_what_is_usual_nothing_is_asked_for_twice() -> None:
    hedge: Hedge[int] = Hedge(min_delay_s=0.0)
    threads = set()
    for _ in range(20):
        hedge.run(lambda: threads.add(threading.current_thread()) or 0)
    assert threads == {threading.current_thread()}
    assert hedge.num_hedged == 0


def test_a_store_that_throttles_is_not_asked_twice() -> None:
    hedge: Hedge[int] = known(Hedge(lambda: False, min_delay_s=0.01))
    timer = threading.Timer(0.05, (release := threading.Event()).set)
    timer.start()
    assert hedge.run(stalled_at_first(release)) == 0
    assert hedge.num_hedged == 0
    timer.join()


def test_at_most_one_read_in_twenty_is_asked_for_twice() -> None:
    hedge, releases = known(Hedge(min_delay_s=0.0)), []
    hedge._budget = 2.0
    for expected in (1, 1):
        releases.append(threading.Event())
        assert hedge.run(stalled_at_first(releases[-1])) == expected
    timer = threading.Timer(0.05, (release := threading.Event()).set)
    timer.start()
    assert hedge.run(stalled_at_first(release)) == 0
    assert hedge.num_hedged == 2
    for each in releases:
        each.set()
    timer.join()


def test_an_error_is_raised_as_it_is() -> None:
    def fail() -> int:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        Hedge[int]().run(fail)
    with pytest.raises(OSError, match="gone"):
        known(Hedge()).run(fail)


def test_if_one_of_two_fails_the_other_counts() -> None:
    hedge, calls, release = known(Hedge(min_delay_s=0.01)), count(), threading.Event()

    def read() -> int:
        if next(calls) == 0:
            release.wait()
            return 7
        release.set()
        raise OSError("gone")

    assert hedge.run(read) == 7
