"""An S3 store behind a proxy that spoils requests: answers lost, bodies cut off, throttling, conditions ignored."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pipeline.storage.base import Store
from pipeline.storage.errors import ObjectNotFound, StoreError
from pipeline.storage.reader import ObjectReader, open_store
from pipeline.storage.s3 import S3Store
from tests.support.fault_proxy import FaultProxy, running_fault_proxy

if TYPE_CHECKING:
    from tests.support.s3_server import S3Server


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
