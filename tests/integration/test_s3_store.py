import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pipeline.errors import AccessDenied, BucketNotFound, ObjectNotFound, StoreError
from pipeline.object_reader import ObjectReader
from pipeline.s3_store import S3Store
from pipeline.store import Store, open_store
from tests.support.fault_proxy import FaultProxy, running_fault_proxy
from tests.support.store_contract import StoreContract

if TYPE_CHECKING:
    from tests.support.s3_server import S3Server


@pytest.fixture
def store(s3_bucket: str) -> Iterator[Store]:
    with closing(open_store(f"s3://{s3_bucket}/runs/one/")) as store:
        yield store


@pytest.fixture
def proxy(s3_server: "S3Server", s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with running_fault_proxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def faulty(proxy: FaultProxy, s3_bucket: str) -> Iterator[Store]:
    """A store whose requests go through the proxy."""
    with closing(open_store(f"s3://{s3_bucket}/runs/one")) as store:
        yield store


class TestS3Store(StoreContract):
    num_races = 1  # this server makes racing writers of one key wait for seconds


def test_the_uri_has_no_slash_at_the_end(store: Store, s3_bucket: str) -> None:
    assert store.uri == f"s3://{s3_bucket}/runs/one"
    assert store.uri_of("parts/0") == f"s3://{s3_bucket}/runs/one/parts/0"


def test_a_store_may_be_a_whole_bucket(store: Store, s3_bucket: str) -> None:
    store.put("key", b"x")
    with closing(open_store(f"s3://{s3_bucket}")) as bucket:
        assert list(bucket.list()) == ["runs/one/key"]
        assert bucket.get("runs/one/key") == b"x"


def test_content_types_are_stored(store: Store, s3_server: "S3Server", s3_bucket: str) -> None:
    store.put("a.png", b"x", content_type="image/png")
    store.put("b", b"x")
    heads = [s3_server.client.head_object(Bucket=s3_bucket, Key=f"runs/one/{key}") for key in ("a.png", "b")]
    assert [head["ContentType"] for head in heads] == ["image/png", "application/octet-stream"]


def test_folder_markers_are_not_listed(store: Store, s3_server: "S3Server", s3_bucket: str) -> None:
    store.put("images/a.png", b"x")
    for marker in ("images/", "empty/"):
        s3_server.client.put_object(Bucket=s3_bucket, Key=f"runs/one/{marker}")
    assert list(store.list()) == ["images/a.png"]


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


def test_an_endpoint_that_is_not_s3_is_reported_as_such(proxy: FaultProxy, s3_bucket: str) -> None:
    with closing(S3Store(s3_bucket, max_attempts=1)) as store:
        for page in (b"", b"<html><body>Welcome</body></html>"):
            proxy.answer("GET", 200, body=page)
            with pytest.raises(StoreError, match="does not answer like S3") as caught:
                list(store.list())
            assert not caught.value.retryable


def test_a_commit_whose_answer_was_lost_is_still_ours(faulty: Store, proxy: FaultProxy) -> None:
    proxy.lose_answers("PUT")
    assert faulty.put_if_absent("parts/0", b"writer 1")
    assert [request.split()[0] for request in proxy.requests] == ["PUT", "PUT", "GET"]
    assert faulty.get("parts/0") == b"writer 1"


def test_a_refusal_whose_answer_was_lost_is_still_a_refusal(faulty: Store, proxy: FaultProxy) -> None:
    assert faulty.put_if_absent("parts/0", b"writer 1")
    proxy.lose_answers("PUT")
    assert not faulty.put_if_absent("parts/0", b"writer 2")
    assert faulty.get("parts/0") == b"writer 1"


def test_a_commit_that_raised_after_all_may_be_repeated(proxy: FaultProxy, s3_bucket: str) -> None:
    with closing(S3Store(s3_bucket, max_attempts=1)) as store:
        proxy.lose_answers("PUT")
        with pytest.raises(StoreError) as caught:
            store.put_if_absent("parts/0", b"writer 1")
        assert caught.value.retryable
        assert store.put_if_absent("parts/0", b"writer 1")
        assert not store.put_if_absent("parts/0", b"writer 2")


def test_writers_whose_answers_get_lost_still_have_one_winner(faulty: Store, proxy: FaultProxy) -> None:
    proxy.lose_answers("PUT", times=4)
    gate = threading.Barrier(8)
    wins: list[bool] = []

    def commit(writer: int) -> None:
        gate.wait(timeout=30)
        wins.append(faulty.put_if_absent("parts/0", f"writer {writer}".encode()))

    writers = [threading.Thread(target=commit, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(wins) == [False] * 7 + [True]


def test_a_conflicting_write_under_way_is_waited_for(faulty: Store, proxy: FaultProxy) -> None:
    proxy.answer("PUT", 409, "ConditionalRequestConflict", times=2)
    assert faulty.put_if_absent("parts/0", b"writer 1")


def test_throttling_slows_down_instead_of_failing(faulty: Store, proxy: FaultProxy) -> None:
    proxy.answer("PUT", 503, "SlowDown", times=2)
    faulty.put("key", b"x")
    assert len(proxy.requests) == 3


def test_throttling_without_end_is_worth_a_later_retry(proxy: FaultProxy, s3_bucket: str) -> None:
    proxy.answer("PUT", 503, "SlowDown", times=9)
    with closing(S3Store(s3_bucket, max_attempts=1)) as store, pytest.raises(StoreError, match="SlowDown") as caught:
        store.put("key", b"x")
    assert caught.value.retryable


def test_server_errors_without_an_s3_code_are_worth_a_retry(proxy: FaultProxy, s3_bucket: str) -> None:
    with closing(S3Store(s3_bucket, max_attempts=1)) as store:
        for status in (500, 502, 504):
            proxy.answer("GET", status, body=b"<html><body>bad gateway</body></html>")
            with pytest.raises(StoreError, match=f"HTTP{status}") as caught:
                store.get("key")
            assert caught.value.retryable


def test_a_body_that_breaks_off_is_read_again(faulty: Store, proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 4000
    faulty.put("key", data)
    proxy.cut_bodies("GET", 100_000, times=2)
    assert faulty.get("key") == data
    proxy.cut_bodies("GET", 0)
    assert faulty.get_range("key", 1000, 500_000) == data[1000:501_000]


def test_a_body_that_always_breaks_off_is_worth_a_later_retry(faulty: Store, proxy: FaultProxy) -> None:
    faulty.put("key", bytes(100_000))
    proxy.cut_bodies("GET", 10, times=100)
    with pytest.raises(StoreError, match="broke off") as caught:
        faulty.get("key")
    assert caught.value.retryable


def test_an_endpoint_that_ignores_conditions_is_refused(faulty: Store, proxy: FaultProxy) -> None:
    proxy.answer("PUT", 200, times=2)  # says yes to both conditional writes of the probe
    with pytest.raises(StoreError, match="ignores If-None-Match") as caught:
        faulty.check_writable()
    assert caught.value.code == "ConditionalWriteIgnored"


def test_an_endpoint_without_conditions_is_refused(faulty: Store, proxy: FaultProxy) -> None:
    proxy.answer("PUT", 501, "NotImplemented")
    with pytest.raises(StoreError, match="runs need conditional writes") as caught:
        faulty.check_writable()
    assert not caught.value.retryable


def test_credentials_that_may_not_delete_pass_the_check(faulty: Store, proxy: FaultProxy) -> None:
    proxy.answer("DELETE", 403, "AccessDenied")
    faulty.check_writable()


def test_a_footer_of_a_big_object_costs_few_bytes(faulty: Store, proxy: FaultProxy) -> None:
    faulty.put("key", bytes(8_000_000))
    with faulty.open("key") as file:
        file.seek(-8, 2)
        assert len(file.read(8)) == 8
    assert [request.split()[0] for request in proxy.requests] == ["PUT", "HEAD", "GET"]


def test_one_reader_serves_many_threads_and_buckets(s3_env: "S3Server", s3_bucket: str) -> None:
    other = s3_env.make_bucket(s3_bucket + "-other")
    for bucket in (s3_bucket, other):
        with closing(open_store(f"s3://{bucket}")) as store:
            store.put("images/a.png", bucket.encode())
    reader, results = ObjectReader(), []

    def read(bucket: str) -> None:
        results.append(reader.read(f"s3://{bucket}/images/a.png") == bucket.encode())

    threads = [threading.Thread(target=read, args=(bucket,)) for bucket in (s3_bucket, other) * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 16
    assert reader.locate(f"s3://{s3_bucket}/a")[0] is reader.locate(f"s3://{s3_bucket}/b")[0]
    with pytest.raises(ObjectNotFound, match=f"s3://{s3_bucket}/images/b.png"):
        reader.read(f"s3://{s3_bucket}/images/b.png")
    reader.close()


def test_objects_that_others_made_are_read_whatever_their_names(
    s3_env: "S3Server", s3_bucket: str, proxy: FaultProxy
) -> None:
    s3_env.client.put_object(Bucket=s3_bucket, Key="back\\slash.png", Body=b"x")
    reader = ObjectReader()
    assert reader.read(f"s3://{s3_bucket}/back\\slash.png") == b"x"
    with pytest.raises(ObjectNotFound):
        reader.read(f"s3://{s3_bucket}//images//a.png")
    assert proxy.requests[-1] == f"GET /{s3_bucket}//images//a.png"
    reader.close()
