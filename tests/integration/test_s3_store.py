import threading
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pipeline.storage.base import Store
from pipeline.storage.errors import ObjectNotFound
from pipeline.storage.reader import ObjectReader, open_store
from tests.support.store_contract import StoreContract

if TYPE_CHECKING:
    from tests.support.s3_server import S3Server


@pytest.fixture
def store(s3_bucket: str) -> Iterator[Store]:
    with closing(open_store(f"s3://{s3_bucket}/runs/one/")) as store:
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
