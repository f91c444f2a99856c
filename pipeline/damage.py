"""Parquet files read with distrust: every page against its checksum, and what is wrong with one that is damaged."""

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ObjectNotFound, StoreError

CONTENT_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError, StoreError)
"""What reading a damaged file may raise; a store that is out of reach is among it, see ``damage_of``."""

_BUFFER_BYTES = 1 << 20


def checked_parquet(file: BinaryIO) -> pq.ParquetFile:
    """The file, read a megabyte of a column at a time.

    Raises:
        ArrowException, OSError: It is no Parquet file; later, that a page is damaged.
    """
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)


def damage_of(error: Exception) -> str:
    """What is wrong with an object whose reading raised ``error``.

    Raises:
        Exception: ``error`` itself, if it is not about the object but about memory or a store that is out of reach.
    """
    if isinstance(error, ObjectNotFound):
        return "nothing"
    if isinstance(error, MemoryError) or (isinstance(error, StoreError) and error.retryable):
        raise error
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
