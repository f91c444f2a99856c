import pytest

from dimoo_core.errors import ConfigError
from pipeline.driver.failure_limits import FailureLimit
from pipeline.errors import TooManyFailures
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import SegmentCommitted, WorkerDied, WorkerProgress


def progress(num_done: int, num_failed: int) -> WorkerProgress:
    return WorkerProgress(
        num_done=num_done, num_failed=num_failed, num_steps=0, num_tokens=0, engine_busy_s=0, engine_span_s=0
    )


def is_hopeless(limit: FailureLimit, num_rows: int = 10_000) -> bool:
    try:
        limit.check(num_rows)
    except TooManyFailures:
        return True
    return False


def test_a_number_is_the_most_that_may_fail() -> None:
    limit = FailureLimit.of("3")
    assert limit is not None
    limit.take("a", progress(0, 3))
    assert not is_hopeless(limit)
    limit.take("b", progress(100, 1))
    with pytest.raises(TooManyFailures, match="4 of 104 rows failed, over the limit of --max-failures 3"):
        limit.check(10_000)


def test_a_share_is_not_looked_at_before_there_is_a_sample() -> None:
    limit = FailureLimit.of("5%")
    assert limit is not None
    limit.take("a", progress(0, 99))
    assert not is_hopeless(limit)
    limit.take("a", progress(1, 99))
    assert is_hopeless(limit)


def test_of_few_rows_the_sample_is_all_of_them() -> None:
    limit = FailureLimit.of("50%")
    assert limit is not None
    limit.take("a", progress(3, 6))
    assert not is_hopeless(limit, num_rows=10)
    assert is_hopeless(limit, num_rows=9)


def test_a_share_that_is_exactly_reached_is_allowed() -> None:
    limit = FailureLimit.of("2.5%")
    assert limit is not None
    limit.take("a", progress(195, 5))
    assert not is_hopeless(limit)
    limit.take("a", progress(195, 6))
    assert is_hopeless(limit)


def test_a_row_is_counted_once_whether_it_is_on_its_way_or_committed() -> None:
    limit = FailureLimit.of("4")
    assert limit is not None
    limit.take("a", progress(10, 2))
    limit.take("a", SegmentCommitted("s", RunTotals(6, 2)))
    assert not is_hopeless(limit)
    limit.take("a", SegmentCommitted("t", RunTotals(4, 2)))
    assert not is_hopeless(limit)
    limit.take("a", SegmentCommitted("u", RunTotals(0, 1)))
    assert is_hopeless(limit)


def test_what_a_dead_worker_had_not_committed_does_not_count() -> None:
    limit = FailureLimit.of("4")
    assert limit is not None
    limit.take("a", progress(0, 5))
    limit.take("a", SegmentCommitted("s", RunTotals(0, 3)))
    limit.take("a", WorkerDied("killed"))
    assert not is_hopeless(limit)
    limit.take("b", progress(0, 2))
    assert is_hopeless(limit)


@pytest.mark.parametrize("text", ["", "-1", "five", "101%", "1.5", "%", "5 %", "1e3"])
def test_what_is_neither_a_number_nor_a_percentage_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="max_failures must be a number of rows or a percentage"):
        FailureLimit.of(text)
