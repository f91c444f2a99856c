"""Records from Parquet files, such as exports of Hugging Face ``datasets``."""

from collections.abc import Collection, Iterator

import pyarrow as pa

from jobs.manifest.record import OpenFile, Record
from manifests.errors import ManifestError
from manifests.files.parquet import ParquetReader
from manifests.files.reader import inspect_file

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
            parquet = ParquetReader(file)
            columns = [name for name in parquet.schema.names if name not in without]
            for row, cells in enumerate(parquet.rows(_BATCH_ROWS, columns)):
                yield Record(cells, f"{uri}, row {row}", uri)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise ManifestError(f"cannot read {uri}: {str(error).strip().partition(chr(10))[0]}") from error
