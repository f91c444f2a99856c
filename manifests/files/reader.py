"""Reads manifest files: the footer to plan, then the rows of one segment after the other.

Storage is not known here: the caller gives a function that opens a URI for reading and seeking. What
that function and its files raise passes through unchanged; only wrong content becomes a ``ManifestError``.
"""

import hashlib
import io
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import BinaryIO, Self

import pyarrow as pa

from manifests.errors import ManifestError
from manifests.files.parquet import ParquetReader
from manifests.files.plan import ManifestFile, Segment

OpenFile = Callable[[str], BinaryIO]

MAGIC = b"PAR1"
TRAILER_BYTES = 8  # length of the footer, then the magic
TAIL_BYTES = 64 * 1024  # read at once; holds the whole footer of most files
MAX_BATCH_ROWS = 1024
MAX_BATCH_BYTES = 16 * 1024 * 1024
ID_BATCH_ROWS = 65536


def inspect_file(uri: str, open_file: OpenFile) -> tuple[ManifestFile, pa.Schema]:
    """What planning has to know about a file, from its footer alone.

    Raises:
        ManifestError: The file is empty, cut off, or not a Parquet file.
    """
    with open_file(uri) as file:
        size_bytes = file.seek(0, io.SEEK_END)
        footer = _read_footer(uri, file, size_bytes)
    with _content_errors(f"cannot read the footer of {uri}"):
        trailer = len(footer).to_bytes(4, "little") + MAGIC
        parquet = ParquetReader(pa.BufferReader(MAGIC + footer + trailer))
        schema, num_rows = parquet.schema, parquet.metadata.num_rows
    return ManifestFile(uri, size_bytes, num_rows, hashlib.blake2b(footer, digest_size=16).hexdigest()), schema


def read_ids(files: Iterable[ManifestFile], open_file: OpenFile) -> Iterator[tuple[int, pa.Array]]:
    """The ``id`` column of the whole manifest in batches, each with the number of its first row.

    Files without the column are skipped.

    Raises:
        ManifestError: A file cannot be decoded.
    """
    first_row = 0
    for file in files:
        with open_file(file.uri) as handle, _content_errors(f"cannot read the ids of {file.uri}"):
            parquet = ParquetReader(handle)
            row = first_row
            if "id" in parquet.schema.names:
                for batch in parquet.batches(ID_BATCH_ROWS, columns=["id"]):
                    yield row, batch.column(0)
                    row += batch.num_rows
        first_row += file.num_rows


class SegmentReader:
    """Reads segments in any order; in row order no byte is decoded twice.

    Keeps the file of the latest segment open. Memory is a batch and a buffer for each column, besides the rows
    returned. Not safe for use from several threads: give each its own reader.
    """

    def __init__(self, open_file: OpenFile) -> None:
        self._open_file = open_file
        self._stream: _RowStream | None = None

    def read(self, segment: Segment) -> pa.Table:
        """Exactly the rows of the segment, with every column of the file.

        Raises:
            ManifestError: The rows cannot be decoded, or the file is shorter than planned.
        """
        if self._stream is None or self._stream.uri != segment.file_uri:
            self.close()
            self._stream = _RowStream(segment.file_uri, self._open_file(segment.file_uri))
        try:
            return self._stream.take(segment.file_row, segment.num_rows)
        except BaseException:
            self.close()  # where the stream stands is unknown now
            raise

    def close(self) -> None:
        """Close the open file, if any; the reader can still be used."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _RowStream:
    """The rows of one open file from some row on; ``_pending`` is decoded and begins at ``_next_row``."""

    def __init__(self, uri: str, file: BinaryIO) -> None:
        self.uri = uri
        self._file = file
        try:
            with _content_errors(f"cannot read the footer of {uri}"):
                self._parquet = ParquetReader(file)
        except BaseException:
            file.close()
            raise
        metadata = self._parquet.metadata
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        self._group_starts = list(accumulate((group.num_rows for group in groups), initial=0))
        row_bytes = sum(group.total_byte_size for group in groups) // max(1, metadata.num_rows)
        self._batch_rows = max(1, min(MAX_BATCH_ROWS, MAX_BATCH_BYTES // max(1, row_bytes)))
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._pending: pa.RecordBatch | None = None
        self._next_row = self._group_starts[-1]

    def take(self, first: int, num_rows: int) -> pa.Table:
        """The given rows of the file; seeks when they are not further on in the present row group."""
        end = first + num_rows
        if end > self._group_starts[-1]:
            found = f"{self._group_starts[-1]} rows, rows {first} to {end - 1} were planned"
            raise ManifestError(f"{self.uri} has {found}: the file has changed since")
        with _content_errors(f"cannot read rows {first} to {end - 1} of {self.uri}"):
            if first < self._next_row or self._group_of(first) > self._group_of(self._next_row):
                self._seek(self._group_of(first))
            while self._next_row < first:
                self._next_batch(first - self._next_row)
            batches = []
            while self._next_row < end:
                batches.append(self._next_batch(end - self._next_row))
            return pa.Table.from_batches(batches, schema=self._parquet.schema)

    def close(self) -> None:
        self._batches = iter(())
        self._pending = None
        self._parquet.close()
        self._file.close()

    def _group_of(self, row: int) -> int:
        return bisect_right(self._group_starts, row) - 1

    def _seek(self, group: int) -> None:
        groups = list(range(group, len(self._group_starts) - 1))
        self._batches = self._parquet.batches(self._batch_rows, row_groups=groups)
        self._pending = None
        self._next_row = self._group_starts[group]

    def _next_batch(self, max_rows: int) -> pa.RecordBatch:
        """The next rows, at least one and at most ``max_rows``; the rest of the decoded batch stays pending."""
        batch = next(self._batches, None) if self._pending is None else self._pending
        if batch is None:
            raise ManifestError(f"{self.uri} ends at row {self._next_row}, its footer tells {self._group_starts[-1]}")
        rows = batch.slice(0, max_rows)
        self._pending = batch.slice(max_rows) if batch.num_rows > max_rows else None
        self._next_row += rows.num_rows
        return rows


def _read_footer(uri: str, file: BinaryIO, size_bytes: int) -> bytes:
    """The footer's bytes, in one read where they fit into the tail."""
    if size_bytes == 0:
        raise ManifestError(f"{uri} is empty (0 bytes), a manifest is a Parquet file")
    file.seek(max(0, size_bytes - TAIL_BYTES))
    tail = file.read()
    if tail[-4:] != MAGIC or size_bytes < len(MAGIC) + TRAILER_BYTES:
        file.seek(0)
        if file.read(4) == MAGIC:
            raise ManifestError(f"{uri} is cut off after {size_bytes} bytes: a Parquet file without its end")
        raise ManifestError(f"{uri} is not a Parquet file, it ends in {tail[-4:]!r} instead of {MAGIC!r}")
    num_bytes = int.from_bytes(tail[-TRAILER_BYTES : -len(MAGIC)], "little")
    if num_bytes > size_bytes - TRAILER_BYTES - len(MAGIC):
        raise ManifestError(f"{uri} is cut off: its footer has {num_bytes} bytes, the file {size_bytes}")
    if num_bytes + TRAILER_BYTES > len(tail):
        file.seek(size_bytes - TRAILER_BYTES - num_bytes)
        tail = file.read()
    return tail[-TRAILER_BYTES - num_bytes : -TRAILER_BYTES]


@contextmanager
def _content_errors(doing: str) -> Iterator[None]:
    """Turn Arrow's errors about wrong content into a ``ManifestError``.

    Arrow reports much of it as a plain OSError without errno. Errors of the storage have an errno or a class
    of their own, and errors of memory are not about the file.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        is_arrow = isinstance(error, pa.ArrowException) and not isinstance(error, MemoryError)
        if is_arrow or (type(error) is OSError and error.errno is None):
            reason = str(error).strip().partition("\n")[0]
            raise ManifestError(f"{doing}: {reason}") from error
        raise
