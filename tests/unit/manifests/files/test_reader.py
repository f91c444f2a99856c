import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import ManifestError
from manifests.files import reader
from manifests.files.plan import ManifestFile, Segment, plan_shards
from manifests.files.reader import SegmentReader, inspect_file, read_ids


class MemoryStore:
    """Objects by URI; remembers what was opened and how many bytes were read."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = objects
        self.files: list[CountingFile] = []

    def open_file(self, uri: str) -> BinaryIO:
        self.files.append(CountingFile(self.objects[uri]))
        return self.files[-1]

    @property
    def bytes_read(self) -> int:
        return sum(file.bytes_read for file in self.files)

    @property
    def are_all_closed(self) -> bool:
        return all(file.closed for file in self.files)


class CountingFile(io.BytesIO):
    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data


def table_of(num_rows: int, start: int = 0) -> pa.Table:
    rows = range(start, start + num_rows)
    return pa.table(
        {
            "id": [f"id{row}" if row % 3 else None for row in rows],
            "prompt": pa.array([f"prompt {row}" for row in rows]).dictionary_encode(),
            "image": pa.array([{"bytes": b"%d" % row, "path": None} for row in rows]),
            "tags": pa.array([[row] * (row % 4) for row in rows], pa.list_(pa.int32())),
        }
    )


def parquet_of(table: pa.Table, **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def segment_of(uri: str, file_row: int, num_rows: int) -> Segment:
    return Segment(0, 0, uri, file_row, file_row, num_rows)


def test_a_file_is_inspected_by_its_footer_alone() -> None:
    data = parquet_of(pa.table({"prompt": pa.array(["x" * 1000 + str(i) for i in range(5000)])}), compression="none")
    store = MemoryStore(a=data)
    file, schema = inspect_file("a", store.open_file)
    assert (file.uri, file.size_bytes, file.num_rows) == ("a", len(data), 5000)
    assert schema.names == ["prompt"]
    assert store.bytes_read <= 64 * 1024
    assert store.are_all_closed


def test_a_footer_longer_than_the_first_read_is_read_whole() -> None:
    table = pa.table({f"column_{index:04d}": pa.array([index]) for index in range(1500)})
    store = MemoryStore(a=parquet_of(table))
    file, schema = inspect_file("a", store.open_file)
    assert int.from_bytes(store.objects["a"][-8:-4], "little") > 64 * 1024
    assert (file.num_rows, schema.names) == (1, table.schema.names)


def test_the_footer_digest_tells_files_apart_and_is_stable() -> None:
    store = MemoryStore(a=parquet_of(table_of(10)), b=parquet_of(table_of(10)), c=parquet_of(table_of(10, start=1)))
    digests = [inspect_file(uri, store.open_file)[0].footer_digest for uri in "abc"]
    assert digests[0] == digests[1] != digests[2]


def test_a_file_without_rows_is_a_manifest() -> None:
    store = MemoryStore(a=parquet_of(table_of(10).slice(0, 0)))
    assert inspect_file("a", store.open_file)[0].num_rows == 0


WHOLE = parquet_of(table_of(100))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"^a is empty \(0 bytes\)"),
        (b"PAR1", "^a is cut off after 4 bytes"),
        (b"PAR1PAR1", "^a is cut off after 8 bytes"),
        (b"id,prompt\n1,a boat\n", "^a is not a Parquet file, it ends in"),
        (WHOLE[:-1], "^a is cut off"),
        (WHOLE[: len(WHOLE) // 2], "^a is cut off"),
        (b"junk" + WHOLE[-8:], "^a is cut off: its footer has"),
        (WHOLE[:-60] + b"\xff" * 52 + WHOLE[-8:], "^cannot read the footer of a: "),
        (WHOLE.replace(b"prompt", b"prom\xff\xfe"), "^cannot read the footer of a: a column's name is not UTF-8: "),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(data: bytes, message: str) -> None:
    store = MemoryStore(a=data)
    with pytest.raises(ManifestError, match=message) as caught:
        inspect_file("a", store.open_file)
    assert "\n" not in str(caught.value)
    assert store.are_all_closed


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_BATCH_ROWS", 7)


TABLES = {"a": table_of(50), "b": table_of(23, start=50)}
STORE = MemoryStore(**{uri: parquet_of(table, row_group_size=16) for uri, table in TABLES.items()})


@settings(max_examples=60)
@given(
    places=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 49), st.integers(1, 30)), min_size=1, max_size=8),
    batch_rows=st.integers(1, 20),
)
def test_any_rows_are_read_exactly_in_any_order(places: list[tuple[str, int, int]], batch_rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch, SegmentReader(STORE.open_file) as segments:
        patch.setattr(reader, "MAX_BATCH_ROWS", batch_rows)
        for uri, row, num_rows in places:
            table = TABLES[uri]
            first = row % table.num_rows
            count = min(num_rows, table.num_rows - first)
            rows = segments.read(segment_of(uri, first, count))
            assert rows.num_rows == count
            assert rows.schema == table.schema
            assert rows.to_pylist() == table.slice(first, count).to_pylist()
    assert STORE.are_all_closed


def test_a_plan_read_in_order_gives_the_manifest() -> None:
    files = [inspect_file(uri, STORE.open_file)[0] for uri in "ab"]
    with SegmentReader(STORE.open_file) as segments:
        tables = [segments.read(segment) for segment in plan_shards(files, shard_rows=20, segment_rows=6)]
    assert pa.concat_tables(tables).to_pylist() == table_of(73).to_pylist()


def random_text(num_rows: int, characters: int) -> pa.Table:
    letters = np.random.default_rng(0).integers(97, 123, (num_rows, characters), dtype=np.uint8)
    return pa.table({"prompt": pa.array([row.tobytes().decode() for row in letters])})


def test_segments_in_order_read_each_byte_once_and_open_the_file_once(small_batches: None) -> None:
    data = parquet_of(random_text(4000, 200), row_group_size=1000, compression="none", use_dictionary=False)
    store = MemoryStore(a=data)
    with SegmentReader(store.open_file) as segments:
        for row in range(0, 4000, 50):
            segments.read(segment_of("a", row, 50))
    assert len(store.files) == 1
    assert store.bytes_read < 1.2 * len(data)


def test_a_jump_reads_from_the_right_row_group_on(small_batches: None) -> None:
    data = parquet_of(random_text(4000, 200), row_group_size=100, compression="none", use_dictionary=False)
    store = MemoryStore(a=data)
    with SegmentReader(store.open_file) as segments:
        segments.read(segment_of("a", 3950, 10))
        segments.read(segment_of("a", 1210, 10))
    assert store.bytes_read < 0.25 * len(data)


def test_memory_does_not_grow_with_the_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_BATCH_BYTES", 2_000_000)
    path = tmp_path / "big.parquet"
    images = np.random.default_rng(0).bytes(100_000)
    schema = pa.schema({"prompt": pa.string(), "image": pa.binary()})
    with pq.ParquetWriter(path, schema, use_dictionary=False, write_batch_size=16, compression="none") as writer:
        rows = [{"prompt": f"prompt {row}", "image": images[row:]} for row in range(600)]
        writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=600)
    del rows
    assert path.stat().st_size > 55_000_000
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    default = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        with SegmentReader(lambda uri: Path(uri).open("rb")) as segments:
            num_rows = sum(segments.read(segment_of(str(path), row, 8)).num_rows for row in range(0, 600, 8))
    finally:
        pa.set_memory_pool(default)
    assert num_rows == 600
    assert 0 < pool.max_memory() < 20_000_000


def test_a_damaged_page_names_file_and_rows_and_spares_the_rows_before() -> None:
    data = bytearray(
        parquet_of(random_text(4000, 200), row_group_size=1000, write_page_checksum=True, use_dictionary=False)
    )
    middle = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(2).column(0).data_page_offset + 5000
    data[middle : middle + 100] = b"\xff" * 100
    store = MemoryStore(a=bytes(data))
    with SegmentReader(store.open_file) as segments:
        assert segments.read(segment_of("a", 900, 100)).num_rows == 100
        with pytest.raises(ManifestError, match=r"^cannot read rows 2000 to 2099 of a: "):
            segments.read(segment_of("a", 2000, 100))
        assert store.are_all_closed
        assert segments.read(segment_of("a", 3900, 100)).num_rows == 100


def test_a_file_that_became_shorter_is_reported() -> None:
    with (
        SegmentReader(STORE.open_file) as segments,
        pytest.raises(ManifestError, match="b has 23 rows, rows 20 to 29 were planned: the file has changed since"),
    ):
        segments.read(segment_of("b", 20, 10))


def test_a_file_that_is_no_parquet_any_more_is_reported_and_closed() -> None:
    store = MemoryStore(a=b"now something else")
    with SegmentReader(store.open_file) as segments, pytest.raises(ManifestError, match="cannot read the footer of a"):
        segments.read(segment_of("a", 0, 1))
    assert store.are_all_closed


class StoreTrouble(Exception):
    pass


@pytest.mark.parametrize("trouble", [StoreTrouble("503"), ConnectionResetError(104, "reset"), MemoryError()])
def test_trouble_of_the_storage_passes_unchanged_and_the_next_read_starts_afresh(trouble: Exception) -> None:
    data = parquet_of(random_text(4000, 2000), use_dictionary=False, compression="none")

    class FailingFile(CountingFile):
        def read(self, size: int | None = -1) -> bytes:
            if self.bytes_read > 3_000_000:
                raise trouble
            return super().read(size)

    opened: list[CountingFile] = []

    def open_file(uri: str) -> BinaryIO:
        opened.append(CountingFile(data) if opened else FailingFile(data))
        return opened[-1]

    with SegmentReader(open_file) as segments:
        with pytest.raises(type(trouble)) as caught:
            segments.read(segment_of("a", 3990, 10))
        assert caught.value is trouble
        assert segments.read(segment_of("a", 3990, 10)).num_rows == 10
    assert all(file.closed for file in opened)


def test_ids_are_read_with_the_number_of_their_first_row() -> None:
    store = MemoryStore(
        a=parquet_of(table_of(10)), b=parquet_of(pa.table({"prompt": ["x"] * 5})), c=parquet_of(table_of(4))
    )
    files = [inspect_file(uri, store.open_file)[0] for uri in "abc"]
    batches = list(read_ids(files, store.open_file))
    assert [first_row for first_row, _ in batches] == [0, 15]
    assert batches[1][1].to_pylist() == [None, "id1", "id2", None]
    assert store.are_all_closed


def test_ids_that_cannot_be_read_are_reported() -> None:
    with pytest.raises(ManifestError, match="cannot read the ids of a: "):
        list(read_ids([ManifestFile("a", 4, 1, "")], MemoryStore(a=b"junk").open_file))
