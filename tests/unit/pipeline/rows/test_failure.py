import pytest
import torch

from dimoo_core.errors import BatchTooLarge, ConfigError, RequestError, RequestTimedOut
from manifests.errors import FailureClass, ManifestRowError
from pipeline.images.decoder import ImageUnreadable
from pipeline.protocol.settings import FailurePolicy, Tries
from pipeline.rows.failure import failure_class_of
from pipeline.rows.inpaint import MaskUnusable
from pipeline.storage.errors import AccessDenied, BucketNotFound, ObjectNotFound, StoreError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ManifestRowError("steps"), "bad_input"),
        (RequestError("prompt"), "bad_input"),
        (ImageUnreadable("html"), "bad_input"),
        (MaskUnusable("empty"), "bad_input"),
        (StoreError("read", "https://a/b", "InvalidUri"), "bad_input"),
        (ObjectNotFound("read", "s3://a/b", "NoSuchKey"), "not_found"),
        (BucketNotFound("read", "s3://a/b", "NoSuchBucket"), "not_found"),
        (AccessDenied("read", "s3://a/b", "AccessDenied"), "forbidden"),
        (StoreError("read", "s3://a/b", "ReadTimeoutError", retryable=True), "timeout"),
        (StoreError("read", "s3://a/b", "SlowDown", retryable=True), "store"),
        (RequestTimedOut("10 s"), "timeout"),
        (BatchTooLarge("alone"), "oom"),
        (torch.OutOfMemoryError("CUDA"), "oom"),
        (MemoryError(), "oom"),
        (RuntimeError("CUDA error"), "engine"),
        (ValueError("nobody foresaw this"), "engine"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_each_error_has_a_class(error: Exception, expected: FailureClass) -> None:
    assert failure_class_of(error) == expected


def test_only_classes_that_another_try_may_fix_get_one() -> None:
    policy = FailurePolicy(tries=Tries(store=3, engine=5, crash=6))
    tries = {name: policy.max_tries(name) for name in ("store", "timeout", "engine", "crash")}
    assert tries == {"store": 3, "timeout": 1, "engine": 5, "crash": 6}
    assert {policy.max_tries(name) for name in ("bad_input", "not_found", "forbidden", "oom")} == {1}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"max_engine_streak": 0}, "max_engine_streak must be at least 1, got 0"),
        ({"first_wait_s": 40.0}, "first_wait_s must be above 0 and at most max_wait_s"),
        ({"row_timeout_s": 0.0}, "row_timeout_s must be above 0"),
    ],
)
def test_policies_that_make_no_sense_are_refused(bad: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FailurePolicy(**bad)  # type: ignore[arg-type]


def test_no_tries_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="engine must be at least 1, got 0"):
        Tries(engine=0)
