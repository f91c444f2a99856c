"""Manifests mutated in their bytes or in their values, read as a run reads them: footer, columns, ids, rows."""

import io
import math
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.errors import ManifestError, RowFailure
from manifests.files.duplicates import find_duplicate_ids
from manifests.files.plan import plan_shards
from manifests.files.reader import SegmentReader, inspect_file, read_ids
from manifests.row.parse import Row, parse_rows
from manifests.row.settings import RowDefaults
from manifests.schema import check_schemas
from tests.fuzz.mutation import mutated
from tests.support.manifest_rows import SCHEMA, mixed_rows

_MAX_ROWS = 200  # of one case: a footer may claim any number
_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "../../etc/passwd",
        "a/b",
        "%2e%2e%2f",
        "\ud7ff",
        "x" * 600,
        "</answer>",
        "<|mdm_mask|>",
        "\u202e",
    ),
    *(
        "s3://key:secret/x@b/c",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "//",
        "s3://",
        "caption",
        "text_to_image",
    ),
)
_NUMBERS = (0, -1, 1, 15, 16, 33, 2**31 - 1, -(2**31), 2048, 16384)
_FLOATS = (0.0, -1.0, math.nan, math.inf, -math.inf, 1e308, 5e-324, 0.5)
_TYPES = (pa.string(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.binary(), pa.null())


class ManifestCases:
    """Half of the cases change bytes of a file, half of them values and types before it is written."""

    def __init__(self) -> None:
        self._table = pa.Table.from_pylist(mixed_rows(), schema=SCHEMA)
        self._files = [_written(self._table, **options) for options in _LAYOUTS]

    def run(self, rng: random.Random) -> str:
        """Whatever is raised but ``ManifestError`` is a finding."""
        if rng.random() < 0.5:
            kind, data = "bytes", mutated(rng.choice(self._files), self._files, rng)
        else:
            kind, data = "values", _written(_with_values(self._table, rng), **rng.choice(_LAYOUTS))
        try:
            failed = _read(data)
        except ManifestError:
            return f"{kind} refused"
        return f"{kind} read, rows failed" if failed else f"{kind} read"

    def close(self) -> None:
        """Nothing is held."""


_LAYOUTS: tuple[dict[str, Any], ...] = (
    {"compression": "snappy"},
    {"compression": "zstd", "row_group_size": 3, "write_page_checksum": True},
    {"compression": "none", "use_dictionary": False, "data_page_version": "2.0"},
    {"compression": "gzip", "write_batch_size": 2, "data_page_size": 64},
)


def _read(data: bytes) -> bool:
    """Whether a row failed; each row of the plan is a row or a failure, or it is an error of ours."""
    defaults = RowDefaults(task="caption")

    def open_file(uri: str) -> BinaryIO:
        return io.BytesIO(data)

    file, schema = inspect_file("m.parquet", open_file)
    check_schemas([("m.parquet", schema)], defaults=defaults, passthrough=[])
    plan = plan_shards([file], shard_rows=64, segment_rows=4, limit=_MAX_ROWS)
    with tempfile.TemporaryDirectory() as folder:
        find_duplicate_ids(read_ids([file], open_file), spill_dir=Path(folder))
    num_rows, failed = 0, False
    with SegmentReader(open_file) as reader:
        for segment in plan:
            for item in parse_rows(reader.read(segment), segment.first_row, defaults):
                assert isinstance(item, Row | RowFailure)
                num_rows += 1
                failed |= isinstance(item, RowFailure)
    assert num_rows == plan.num_rows, f"{num_rows} rows of {plan.num_rows}"
    return failed


def _with_values(table: pa.Table, rng: random.Random) -> pa.Table:
    """Some cells replaced by odd ones; sometimes a column of another type, name or place."""
    for _ in range(rng.randint(1, 5)):
        index = rng.randrange(table.num_columns)
        field = table.schema.field(index)
        kind = field.type if rng.random() < 0.8 else rng.choice(_TYPES)
        draw = partial(_cell, kind, rng)
        kept = table.column(index).to_pylist() if kind == field.type else [draw() for _ in range(table.num_rows)]
        for row in rng.sample(range(table.num_rows), rng.randint(1, 3)):
            kept[row] = draw()
        name = field.name if rng.random() < 0.95 else rng.choice((*SCHEMA.names, "promt", "mask_box", "x"))
        table = table.set_column(index, name, pa.array(kept, kind))
    if rng.random() < 0.1:
        table = table.remove_column(rng.randrange(table.num_columns))  # two may have one name
    return table


def _cell(kind: pa.DataType, rng: random.Random) -> Any:
    if rng.random() < 0.1 or pa.types.is_null(kind):
        return None
    if pa.types.is_struct(kind):
        return {"bytes": rng.choice((None, b"", rng.randbytes(9))), "path": rng.choice((None, *_TEXTS))}
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    if pa.types.is_integer(kind):
        return rng.choice(_NUMBERS)
    if pa.types.is_floating(kind):
        return rng.choice(_FLOATS)
    if pa.types.is_binary(kind):
        return rng.choice((b"", b"\xff\xfe", rng.randbytes(20)))
    return rng.choice(_TEXTS)


def _written(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()
