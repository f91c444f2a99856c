"""Parquet files read on the thread that asks, a megabyte of a column at a time, every page against its checksum."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

COLUMN_BUFFER_BYTES = 1 << 20


class ParquetReader:
    """An open Parquet file; the file object stays the caller's to close.

    Arrow's own threads are kept out: they release a Python file or buffer whenever they come to it, and one that does
    so while Python ends aborts the process (``pthread_exit`` within a destructor). Without ``buffer_size`` Arrow would
    hold all of a column in a row group, with ``pre_buffer`` even of all columns.

    Raises:
        ArrowException, OSError: It is no Parquet file; later, that a page is damaged.
    """

    def __init__(self, file: BinaryIO | pa.NativeFile) -> None:
        try:
            self._parquet = pq.ParquetFile(
                file, pre_buffer=False, buffer_size=COLUMN_BUFFER_BYTES, page_checksum_verification=True
            )
        except UnicodeDecodeError as error:  # pyarrow lets it through from the footer's names
            raise pa.ArrowInvalid(f"a column's name is not UTF-8: {error}") from error

    @property
    def schema(self) -> pa.Schema:
        """The columns and, as metadata, the writer's notes on the table."""
        return self._parquet.schema_arrow

    @property
    def metadata(self) -> pq.FileMetaData:
        """The footer: row groups, their sizes, and the file's key-value pairs."""
        return self._parquet.metadata

    @property
    def key_values(self) -> dict[bytes, bytes]:
        """The footer's key-value pairs, empty if it has none."""
        found: dict[bytes, bytes] = self._parquet.metadata.metadata or {}
        return found

    def batches(
        self, max_rows: int, *, columns: Sequence[str] | None = None, row_groups: Sequence[int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """All rows, or those of some row groups, at most so many at a time."""
        return iter(
            self._parquet.iter_batches(
                max_rows,
                columns=None if columns is None else list(columns),
                row_groups=None if row_groups is None else list(row_groups),
                use_threads=False,
            )
        )

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows at once."""
        return self._parquet.read(columns=None if columns is None else list(columns), use_threads=False)

    def rows(self, max_rows: int, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Each row as a dict, decoded ``max_rows`` at a time."""
        for batch in self.batches(max_rows, columns=columns):
            yield from batch.to_pylist()

    def close(self) -> None:
        """Let go of the file, which is closed too."""
        self._parquet.close(force=True)
