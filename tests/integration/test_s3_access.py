"""Who may reach an S3 store: wrong buckets, endpoints and credentials are told apart, each with what to do."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pipeline.storage.base import Store
from pipeline.storage.errors import AccessDenied, BucketNotFound, StoreError
from pipeline.storage.reader import open_store
from pipeline.storage.s3 import S3Store

if TYPE_CHECKING:
    from tests.support.s3_server import S3Server


@pytest.fixture
def store(s3_bucket: str) -> Iterator[Store]:
    with closing(open_store(f"s3://{s3_bucket}/runs/one/")) as store:
        yield store


EVERY_OPERATION: list[Callable[[Store], object]] = [
    lambda store: store.get("key"),
    lambda store: store.get_range("key", 0, 1),
    lambda store: store.size("key"),
    lambda store: list(store.list()),
    lambda store: store.put("key", b"x"),
    lambda store: store.put_if_absent("key", b"x"),
    lambda store: store.delete("key"),
    lambda store: store.check_writable(),
]


@pytest.mark.usefixtures("s3_env")
def test_a_missing_bucket_is_named_by_every_operation() -> None:
    with closing(open_store("s3://no-such-bucket/run")) as store:
        for operation in EVERY_OPERATION:
            with pytest.raises(BucketNotFound) as caught:
                operation(store)
            assert caught.value.code == "NoSuchBucket"
            assert "s3://no-such-bucket/run" in str(caught.value)
            assert "create it or check the name" in str(caught.value)
            assert not caught.value.retryable


def test_a_wrong_secret_is_denied_by_every_operation(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with closing(open_store(f"s3://{s3_bucket}")) as store:
        for operation in EVERY_OPERATION:
            with pytest.raises(AccessDenied) as caught:
                operation(store)
            assert not caught.value.retryable
            assert "wrong-secret" not in str(caught.value)


def test_a_wrong_secret_says_which_variable_to_check(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with closing(open_store(f"s3://{s3_bucket}")) as store, pytest.raises(AccessDenied, match="AWS_SECRET_ACCESS_KEY"):
        store.get("key")


def test_an_unknown_access_key_says_which_variable_to_check(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKUNKNOWN")
    with closing(open_store(f"s3://{s3_bucket}")) as store, pytest.raises(AccessDenied, match="AWS_ACCESS_KEY_ID"):
        store.get("key")


def test_missing_credentials_say_how_to_set_them(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with (
        closing(open_store(f"s3://{s3_bucket}")) as store,
        pytest.raises(AccessDenied, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE") as caught,
    ):
        store.get("key")
    assert caught.value.code == "NoCredentialsError"


def test_half_of_the_credentials_are_missing_credentials(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessDenied, match="set AWS_ACCESS_KEY_ID") as caught:
        open_store(f"s3://{s3_bucket}").get("key")
    assert caught.value.code == "PartialCredentialsError"


def test_an_unknown_profile_is_named(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match="nobody") as caught:
        open_store(f"s3://{s3_bucket}")
    assert caught.value.code == "ProfileNotFound"


def test_a_malformed_endpoint_is_a_clear_error(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL"):
        open_store(f"s3://{s3_bucket}")


def test_a_read_only_key_reads_but_fails_the_check(
    store: Store, s3_env: "S3Server", monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("key", b"x")
    for name, value in s3_env.env(s3_env.read_only).items():
        monkeypatch.setenv(name, value)
    with closing(open_store(store.uri)) as reader:
        assert reader.get("key") == b"x"
        assert list(reader.list()) == ["key"]
        for write in (reader.put, reader.put_if_absent):
            with pytest.raises(AccessDenied):
                write("other", b"x")
        with pytest.raises(AccessDenied, match="check the policies of the user and the bucket"):
            reader.delete("key")
        with pytest.raises(AccessDenied, match=r"cannot create s3://.*/runs/one/_probe/.*: AccessDenied \("):
            reader.check_writable()
    assert list(store.list()) == ["key"]


def test_a_session_region_is_not_required(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    with closing(open_store(f"s3://{s3_bucket}")) as store:
        store.put("key", b"x")


def test_an_unreachable_endpoint_is_named_and_worth_a_retry(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with closing(S3Store(s3_bucket, max_attempts=2)) as store, pytest.raises(StoreError) as caught:
        store.put("key", b"x")
    assert caught.value.retryable
    assert "no connection to http://127.0.0.1:9" in str(caught.value)
