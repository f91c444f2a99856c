import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.storage.base import RangedFile
from pipeline.storage.errors import StoreError


class CountedObject:
    """One object in memory that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.num_bytes = 0

    def get_range(self, key: str, start: int, length: int) -> bytes:
        piece = self.data[start : start + length]
        self.num_bytes += len(piece)
        return piece

    def uri_of(self, key: str) -> str:
        return f"memory://{key}"


def opened(source: CountedObject, buffer_bytes: int = 1 << 20) -> io.BufferedReader:
    return io.BufferedReader(RangedFile(source, "key", len(source.data)), buffer_bytes)


@pytest.fixture(scope="module")
def parquet_bytes() -> bytes:
    table = pa.table({name: np.arange(1_000_000) for name in ("a", "b", "c")})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=100_000, compression="none", use_dictionary=False)
    return bytes(sink.getvalue().to_pybytes())


def test_a_footer_costs_few_bytes(parquet_bytes: bytes) -> None:
    source = CountedObject(parquet_bytes)
    assert len(source.data) > 20_000_000
    parquet = pq.ParquetFile(opened(source))
    assert parquet.metadata.num_rows == 1_000_000
    assert source.num_bytes <= 2 * 65_536  # pyarrow asks for the last 64 KiB


def test_one_column_of_one_row_group_does_not_cost_the_file(parquet_bytes: bytes) -> None:
    source = CountedObject(parquet_bytes)
    column = pq.ParquetFile(opened(source)).read_row_group(3, columns=["b"])["b"]
    assert column[0].as_py() == 300_000
    assert source.num_bytes < 3_000_000


def test_small_reads_are_served_from_the_buffer() -> None:
    source = CountedObject(bytes(1000) * 1000)
    file = opened(source, 10_000)
    for _ in range(1000):
        assert len(file.read(10)) == 10
    assert source.num_bytes == 10_000


def test_seeking_before_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match="before the start of memory://key"):
        RangedFile(CountedObject(b"0123"), "key", 4).seek(-5, io.SEEK_END)


def test_reading_beyond_the_end_is_empty() -> None:
    file = RangedFile(CountedObject(b"0123"), "key", 4)
    assert file.seek(10) == 10
    assert file.read(5) == b""


def test_an_object_that_became_shorter_is_an_error_even_through_parquet(parquet_bytes: bytes) -> None:
    source = CountedObject(parquet_bytes)
    parquet = pq.ParquetFile(opened(source))
    source.data = source.data[:1000]
    with pytest.raises(StoreError) as caught:
        parquet.read()
    assert caught.value.code == "ObjectChanged"
