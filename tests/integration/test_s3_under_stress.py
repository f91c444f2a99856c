"""A store that throttles, hangs, or dies in the middle of a large object: slower, never failed, nothing left behind."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.storage import s3 as multipart
from pipeline.storage.errors import AccessDenied, StoreError
from pipeline.storage.reader import open_store
from pipeline.storage.s3 import S3Store
from tests.support.fault_proxy import FaultProxy, running_fault_proxy

if TYPE_CHECKING:
    from tests.support.s3_server import S3Server

MIB = 2**20


@pytest.fixture
def proxy(s3_server: "S3Server", s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with running_fault_proxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of more than 6 MiB go in parts of 5 MiB, the least that S3 takes."""
    monkeypatch.setattr(multipart, "PART_BYTES", 5 * MIB)
    monkeypatch.setattr("pipeline.storage.s3.MULTIPART_BYTES", 6 * MIB)


def unfinished(server: "S3Server", bucket: str) -> list[str]:
    page: Any = server.client.list_multipart_uploads(Bucket=bucket)
    return [upload["Key"] for upload in page.get("Uploads", [])]


def test_many_writers_on_a_store_that_throttles_become_fewer_and_none_fails(
    proxy: FaultProxy, s3_server: "S3Server", s3_bucket: str
) -> None:
    proxy.answer("PUT", 503, "SlowDown", times=12)
    with closing(S3Store(s3_bucket)) as store, ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda number: store.put(f"images/{number}", b"x"), range(64)))
        assert store._concurrency.num_refusals == 12
        assert store._concurrency.is_slowed
    with closing(open_store(f"s3://{s3_bucket}")) as store:
        assert len(list(store.list("images/"))) == 64


def test_a_request_without_an_answer_slows_down_and_is_repeated(proxy: FaultProxy, s3_bucket: str) -> None:
    with closing(S3Store(s3_bucket, read_timeout_s=0.5)) as store:
        proxy.stall("PUT")
        store.put("key", b"x")
        assert store._concurrency.num_refusals == 1
        assert store._concurrency.is_slowed
        assert store.get("key") == b"x"


def test_a_read_that_hangs_is_overtaken_by_a_second_one(proxy: FaultProxy, s3_bucket: str) -> None:
    with closing(S3Store(s3_bucket)) as store:  # would wait for a minute
        store.put("key", b"x" * 1000)
        for _ in range(20):
            store.get("key")
        proxy.stall("GET", times=1)
        assert store.get("key") == b"x" * 1000
        assert store._hedge.num_hedged == 1
        assert [request.split()[0] for request in proxy.requests].count("GET") == 22


@pytest.mark.usefixtures("small_parts")
def test_a_large_object_goes_in_parts_and_reads_back_whole(proxy: FaultProxy, s3_bucket: str) -> None:
    data = bytes(range(256)) * (11 * MIB // 256)
    with closing(open_store(f"s3://{s3_bucket}/run")) as store:
        store.put("large", data, content_type="image/png")
        assert [request.split()[0] for request in proxy.requests] == ["POST", "PUT", "PUT", "PUT", "POST"]
        assert store.get("large") == data


@pytest.mark.usefixtures("small_parts")
def test_a_large_object_that_cannot_be_finished_leaves_no_parts(
    proxy: FaultProxy, s3_server: "S3Server", s3_bucket: str
) -> None:
    with closing(open_store(f"s3://{s3_bucket}/run")) as store:
        proxy.answer("PUT", 403, "AccessDenied")
        with pytest.raises(AccessDenied):
            store.put("large", bytes(11 * MIB))
        assert store.size("large") is None
    assert unfinished(s3_server, s3_bucket) == []
    assert any(request.startswith("DELETE /") for request in proxy.requests)


def test_parts_of_a_killed_process_are_given_up_by_the_next_start_and_no_others(
    s3_server: "S3Server", s3_bucket: str
) -> None:
    for key in ("run/images/1", "run/images/2", "run-of-others/images/1"):
        upload: Any = s3_server.client.create_multipart_upload(Bucket=s3_bucket, Key=key)
        s3_server.client.upload_part(
            Bucket=s3_bucket, Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=bytes(5 * MIB)
        )
    with closing(open_store(f"s3://{s3_bucket}/run")) as store:
        assert store.give_up_unfinished() == 2
        assert store.give_up_unfinished() == 0
    assert unfinished(s3_server, s3_bucket) == ["run-of-others/images/1"]


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented")])
def test_who_may_not_look_for_parts_starts_all_the_same(
    status: int, code: str, proxy: FaultProxy, s3_bucket: str
) -> None:
    with closing(open_store(f"s3://{s3_bucket}/run")) as store:
        proxy.answer("GET", status, code)
        assert store.give_up_unfinished() == 0


def test_a_store_that_fails_while_parts_are_given_up_says_so(proxy: FaultProxy, s3_bucket: str) -> None:
    with closing(S3Store(s3_bucket, "run", max_attempts=1)) as store:
        proxy.answer("GET", 500, "InternalError")
        with pytest.raises(StoreError, match="InternalError"):
            store.give_up_unfinished()
