"""What every store promises; each kind of store runs these tests against itself."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.storage.base import Store
from pipeline.storage.errors import ObjectNotFound, StoreError
from pipeline.storage.reader import open_store

BAD_NEW_KEYS = (
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "a\\b",
    "a\0b",
    "a\nb",
    ".tmp-a",
    "a/.tmp-1",
)
BAD_READ_KEYS = ("", "..", "../a", "a/../../b", "a\0b", "\udc80")


class StoreContract:
    """Subclasses provide the fixture ``store``: an empty store under a root with a prefix."""

    num_races = 5

    def test_an_object_reads_back_as_it_was_written(self, store: Store) -> None:
        data = bytes(range(256)) * 3
        store.put("images/0/a.png", data, content_type="image/png")
        assert store.get("images/0/a.png") == data
        assert store.size("images/0/a.png") == len(data)

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        store.put("empty", b"")
        assert store.get("empty") == b""
        assert store.get_range("empty", 0, 10) == b""
        assert store.size("empty") == 0
        with store.open("empty") as file:
            assert file.read() == b""
        assert list(store.list()) == ["empty"]

    def test_a_large_object_reads_back_whole_and_in_ranges(self, store: Store) -> None:
        data = bytes(range(251)) * (8 * 1024 * 1024 // 251)
        store.put("large", data)
        assert store.get("large") == data
        assert store.get_range("large", 5_000_000, 1000) == data[5_000_000:5_001_000]

    def test_writing_again_replaces_the_object(self, store: Store) -> None:
        store.put("key", b"a long first version")
        store.put("key", b"second")
        assert store.get("key") == b"second"

    def test_readers_never_see_a_part_of_a_write(self, store: Store) -> None:
        versions = [bytes([number]) * 300_000 for number in range(8)]
        store.put("key", versions[0])
        is_done = threading.Event()

        def read_all() -> set[bytes]:
            seen = set()
            while not is_done.is_set():
                seen.add(store.get("key"))
            return seen

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read_all) for _ in range(2)]
            for version in versions:
                store.put("key", version)
            is_done.set()
            assert all(reader.result() <= set(versions) for reader in readers)

    def test_ranges_end_where_the_object_ends(self, store: Store) -> None:
        store.put("key", b"0123456789")
        assert store.get_range("key", 2, 3) == b"234"
        assert store.get_range("key", 8, 100) == b"89"
        assert store.get_range("key", 10, 1) == b""
        assert store.get_range("key", 99, 1) == b""
        assert store.get_range("key", 3, 0) == b""

    def test_a_missing_object_is_named_in_the_error(self, store: Store) -> None:
        for read in (store.get, store.open, lambda key: store.get_range(key, 0, 10)):
            with pytest.raises(ObjectNotFound) as caught:
                read("images/missing.png")
            assert caught.value.uri == store.uri_of("images/missing.png")
            assert caught.value.uri in str(caught.value)
            assert not caught.value.retryable

    def test_the_size_of_a_missing_object_is_none(self, store: Store) -> None:
        store.put("folder/key", b"x")
        assert store.size("missing") is None
        assert store.size("folder") is None
        assert store.size("folder/key/below") is None

    def test_a_folder_is_not_an_object(self, store: Store) -> None:
        store.put("folder/key", b"x")
        with pytest.raises(ObjectNotFound):
            store.get("folder")

    def test_put_if_absent_creates_once(self, store: Store) -> None:
        assert store.put_if_absent("parts/0.parquet", b"writer 1")
        assert not store.put_if_absent("parts/0.parquet", b"writer 2")
        assert store.get("parts/0.parquet") == b"writer 1"

    def test_put_if_absent_of_the_stored_bytes_is_a_success(self, store: Store) -> None:
        assert store.put_if_absent("parts/0.parquet", b"writer 1")
        assert store.put_if_absent("parts/0.parquet", b"writer 1")

    def test_put_if_absent_succeeds_again_after_a_delete(self, store: Store) -> None:
        assert store.put_if_absent("key", b"writer 1")
        store.delete("key")
        assert store.put_if_absent("key", b"writer 2")

    def test_of_many_racing_writers_exactly_one_wins(self, store: Store) -> None:
        num_writers = 16
        gate = threading.Barrier(num_writers)

        def commit(key: str, writer: int) -> bool:
            gate.wait(timeout=30)
            return store.put_if_absent(key, f"writer {writer}".encode() * 1000)

        with ThreadPoolExecutor(num_writers) as pool:
            for round_number in range(self.num_races):
                key = f"parts/{round_number}"
                wins = list(pool.map(lambda writer, key=key: commit(key, writer), range(num_writers)))
                assert wins.count(True) == 1
                assert store.get(key) == f"writer {wins.index(True)}".encode() * 1000

    def test_listing_is_by_prefix_and_relative_to_the_root(self, store: Store) -> None:
        keys = {"run.json", "parts/1", "parts/10", "parts/2", "parts-old/1", "images/0/a.png"}
        for key in keys:
            store.put(key, b"x")
        assert set(store.list()) == keys
        assert set(store.list("parts/")) == {"parts/1", "parts/10", "parts/2"}
        assert set(store.list("parts/1")) == {"parts/1", "parts/10"}
        assert set(store.list("parts")) == {"parts/1", "parts/10", "parts/2", "parts-old/1"}
        assert dict(store.list_with_sizes("parts/")) == {key: store.size(key) for key in store.list("parts/")}
        assert list(store.list("nothing/here")) == []
        assert list(store.list("run.json/below")) == []

    def test_listing_shows_every_key_of_many_pages(self, store: Store) -> None:
        keys = {f"images/{number:05}" for number in range(1050)}
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: store.put(key, b""), keys))
        listed = list(store.list("images/"))
        assert len(listed) == len(keys)
        assert set(listed) == keys

    def test_a_store_sees_only_keys_below_its_root(self, store: Store) -> None:
        sibling = open_store(store.uri + "-sibling")
        sibling.put("theirs", b"x")
        store.put("ours", b"x")
        assert list(store.list()) == ["ours"]
        assert list(sibling.list()) == ["theirs"]
        sibling.close()

    def test_keys_may_have_any_printable_characters(self, store: Store) -> None:
        for key in ("größe/図.png", "a b+c&d=e%20#f?.png", "emoji-🦤", "quote'\"<>"):
            assert store.put_if_absent(key, b"x")
            assert store.get(key) == b"x"
            assert list(store.list()) == [key]
            assert list(store.list(key[:3])) == [key]
            store.delete(key)
            assert list(store.list()) == []

    def test_bad_keys_are_refused_for_writing(self, store: Store) -> None:
        writes: list[Callable[[str], object]] = [
            lambda key: store.put(key, b"x"),
            lambda key: store.put_if_absent(key, b"x"),
            store.delete,
        ]
        for write, key in product(writes, BAD_NEW_KEYS):
            with pytest.raises(StoreError) as caught:
                write(key)
            assert caught.value.code == "InvalidKey"
            assert str(caught.value).isprintable()
        assert list(store.list()) == []

    def test_keys_that_leave_the_root_are_refused_for_reading(self, store: Store) -> None:
        reads: list[Callable[[str], object]] = [
            store.get,
            lambda key: store.get_range(key, 0, 1),
            store.size,
            store.open,
        ]
        for read, key in product(reads, BAD_READ_KEYS):
            with pytest.raises(StoreError) as caught:
                read(key)
            assert caught.value.code == "InvalidKey"

    def test_deleting_is_idempotent(self, store: Store) -> None:
        store.put("folder/key", b"x")
        store.delete("folder/key")
        store.delete("folder/key")
        store.delete("never/there")
        assert list(store.list()) == []

    def test_deleting_takes_one_object_not_what_lies_below(self, store: Store) -> None:
        store.put("folder/key", b"x")
        store.delete("folder")
        store.delete("folder/key/below")
        assert list(store.list()) == ["folder/key"]

    def test_parquet_is_read_in_place(self, store: Store) -> None:
        table = pa.table({"id": list(range(50_000)), "text": [f"row {number}" for number in range(50_000)]})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=5_000)
        store.put("manifest.parquet", sink.getvalue().to_pybytes())
        with store.open("manifest.parquet") as file:
            parquet = pq.ParquetFile(file)
            assert parquet.read_row_group(7).equals(table.slice(35_000, 5_000))
            assert parquet.read().equals(table)

    def test_an_open_object_can_be_read_from_anywhere(self, store: Store) -> None:
        data = bytes(range(256)) * 10_000
        store.put("key", data)
        offsets = [0, 2_559_990, 17, 1_000_000, 1_000_001, 3_000_000]
        with store.open("key") as file:
            assert file.seek(-4, 2) == len(data) - 4
            assert file.read() == data[-4:]
            for offset, length in pairwise(offsets):
                file.seek(offset)
                assert file.read(length) == data[offset : offset + length]

    def test_a_writable_store_passes_the_check_and_is_left_as_it_was(self, store: Store) -> None:
        store.check_writable()
        assert list(store.list()) == []

    def test_concurrent_checks_do_not_disturb_each_other(self, store: Store) -> None:
        with ThreadPoolExecutor(8) as pool:
            for check in [pool.submit(store.check_writable) for _ in range(8)]:
                check.result()
        assert list(store.list()) == []
