import threading
import time

import pytest

from pipeline.storage import retry
from pipeline.storage.errors import StoreError
from pipeline.storage.retry import RetryPolicy


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, num_failures: int, retryable: bool = True, code: str = "RequestTimeout") -> None:
        self.num_calls = 0
        self._num_failures = num_failures
        self._retryable = retryable
        self._code = code

    def __call__(self) -> str:
        self.num_calls += 1
        if self.num_calls <= self._num_failures:
            raise StoreError("read", "s3://b/k", self._code, retryable=self._retryable)
        return "read"


def retry_policy() -> RetryPolicy:
    return RetryPolicy(threading.Event(), first_wait_s=0.001)


def test_what_fails_for_a_while_is_tried_again() -> None:
    work = Flaky(retry.MAX_TRIES - 1)
    assert retry_policy().retry(work) == "read"
    assert work.num_calls == retry.MAX_TRIES


def test_retries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "MAX_WAIT_S", 0.001)
    work = Flaky(100)
    with pytest.raises(StoreError, match="RequestTimeout"):
        retry_policy().retry(work)
    assert work.num_calls == retry.MAX_TRIES


def test_a_store_that_throttles_is_waited_for_much_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "MAX_WAIT_S", 0.001)
    work = Flaky(retry.MAX_THROTTLED_TRIES - 1, code="SlowDown")
    assert retry_policy().retry(work) == "read"
    assert work.num_calls > 10 * retry.MAX_TRIES
    with pytest.raises(StoreError, match="SlowDown"):
        retry_policy().retry(Flaky(retry.MAX_THROTTLED_TRIES, code="SlowDown"))


def test_what_cannot_be_fixed_is_not_tried_again() -> None:
    work = Flaky(1, retryable=False)
    with pytest.raises(StoreError):
        retry_policy().retry(work)
    assert work.num_calls == 1


def test_a_stop_cuts_waiting_short() -> None:
    stop = threading.Event()
    waiting = RetryPolicy(stop, first_wait_s=60)
    work = Flaky(100)
    threading.Timer(0.05, stop.set).start()
    started_s = time.monotonic()
    with pytest.raises(StoreError):
        waiting.retry(work)
    assert time.monotonic() - started_s < 30
    assert work.num_calls == 1
    assert waiting.is_over
