"""Records from Parquet files, such as exports of Hugging Face ``datasets``."""

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.builder.record import OpenFile, Record
from manifests.errors import ManifestError
from manifests.reader import COLUMN_BUFFER_BYTES, inspect_file

_BATCH_ROWS = 64  # rows may hold images


def parquet_types(uri: str, open_file: OpenFile) -> dict[str, pa.DataType]:
    """The columns of a file with their types.

    Raises:
        ManifestError: It is no Parquet file.
    """
    _, schema = inspect_file(uri, open_file)
    return {field.name: field.type for field in schema}


def read_parquet(uri: str, open_file: OpenFile, *, without: Collection[str] = ()) -> Iterator[Record]:
    """The rows of a file, but for the columns in ``without``.

    Raises:
        ManifestError: It cannot be decoded.
    """
    with open_file(uri) as file:
        try:
            parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=COLUMN_BUFFER_BYTES)
            columns = [name for name in parquet.schema_arrow.names if name not in without]
            row = 0
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                for cells in batch.to_pylist():
                    yield Record(cells, f"{uri}, row {row}", uri)
                    row += 1
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise ManifestError(f"cannot read {uri}: {str(error).strip().partition(chr(10))[0]}") from error
