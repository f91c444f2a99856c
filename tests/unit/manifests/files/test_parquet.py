"""Reading Parquet files without threads of Arrow's own."""

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.files.parquet import ParquetReader

NUM_ROWS = 1000
ROW_GROUP = 300


@pytest.fixture
def content() -> bytes:
    """A file of four row groups."""
    table = pa.table({"row": range(NUM_ROWS), "text": [f"text {row}" for row in range(NUM_ROWS)]})
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"key": "value"}), buffer, row_group_size=ROW_GROUP)
    return buffer.getvalue()


def test_every_way_of_reading_gives_the_same_rows(content: bytes) -> None:
    reader = ParquetReader(io.BytesIO(content))
    expected = [{"row": row, "text": f"text {row}"} for row in range(NUM_ROWS)]
    assert reader.table().to_pylist() == expected
    assert list(reader.rows(7)) == expected
    assert [row for batch in reader.batches(64) for row in batch.to_pylist()] == expected
    assert reader.schema.names == ["row", "text"]
    assert reader.key_values[b"key"] == b"value"


def test_columns_and_row_groups_can_be_chosen(content: bytes) -> None:
    reader = ParquetReader(io.BytesIO(content))
    assert reader.table(["text"]).column_names == ["text"]
    batches = list(reader.batches(NUM_ROWS, columns=["row"], row_groups=[1, 3]))
    found = [row for batch in batches for row in batch.column("row").to_pylist()]
    assert found == [*range(300, 600), *range(900, 1000)]


def test_a_damaged_page_is_found(content: bytes) -> None:
    table = pa.table({"text": [f"text {row}" for row in range(NUM_ROWS)]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="none", use_dictionary=False, write_page_checksum=True)
    damaged = buffer.getvalue().replace(b"text 500", b"text 5O0")
    with pytest.raises(OSError, match="checksum"):
        ParquetReader(io.BytesIO(damaged)).table()


def threads_started_by(read: str, path: Path) -> int:
    """How many threads a process has more after reading the file."""
    program = f"""
import io, os, pathlib
import pyarrow.parquet as pq
from manifests.files.parquet import ParquetReader
file = io.BytesIO(pathlib.Path({str(path)!r}).read_bytes())
before = len(os.listdir("/proc/self/task"))
{read}
print(len(os.listdir("/proc/self/task")) - before)
"""
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return int(found.stdout)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_no_thread_of_arrow_is_started_that_could_outlive_python(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.parquet"
    path.write_bytes(content)
    assert threads_started_by("ParquetReader(file).table()", path) == 0
    assert threads_started_by("list(ParquetReader(file).rows(7))", path) == 0
    assert threads_started_by("list(ParquetReader(file).batches(64, row_groups=[0, 2]))", path) == 0
    assert threads_started_by("pq.ParquetFile(file).read()", path) > 0  # that it can be seen at all
