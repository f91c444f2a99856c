"""The result of each row, and the Parquet part that records it.

The part is the only thing a reader has to trust: rows that are done are its rows, rows that failed are in its metadata,
from which the file in ``_failures/`` is made. Nothing in a part depends on when or by whom it was written, except
``dimoo.writer``, which distinguishes two writers of the same segment.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from manifests.columns import COLUMNS
from manifests.errors import RowFailure
from manifests.schema import passthrough_schema

MAX_CELL_CHARS = 1000
"""Of a cell as JSON; failures are in the metadata of parts, which every resume reads whole."""


def extra_columns(rows: pa.Table, index: int) -> str | None:
    """A JSON object of one row's cells by their columns; None if there are none.

    Left out are nulls, bytes, cells of more than ``MAX_CELL_CHARS`` characters, and what JSON cannot hold. Types that
    it does not know, such as dates, become text. URIs of images are not among these columns: they may be signed.
    """
    cells: dict[str, str] = {}
    for name in rows.column_names:
        if name in COLUMNS:
            continue
        with suppress(ValueError, TypeError, OverflowError, pa.ArrowException):  # any type may come, and any value
            value = rows.column(name)[index].as_py()
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
            if value is not None and len(text) <= MAX_CELL_CHARS:
                cells[name] = text
    pairs = (f"{json.dumps(name, ensure_ascii=False)}: {text}" for name, text in cells.items())
    return "{" + ", ".join(pairs) + "}" if cells else None


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        raise TypeError("bytes have no form in JSON")
    return str(value)


FORMAT_VERSION = 1

_OUTPUT = pa.struct(
    [
        pa.field("output", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("score", pa.float64()),
    ]
)
_ANSWER = pa.struct(
    [pa.field("answer", pa.string(), nullable=False), pa.field("probability", pa.float64(), nullable=False)]
)

DONE_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("output", pa.string()),
        pa.field("text", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("steps", pa.int32(), nullable=False),
        pa.field("cfg_scale", pa.float64(), nullable=False),
        pa.field("cfg_image_scale", pa.float64()),
        pa.field("temperature", pa.float64(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("preset", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("finish_reason", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("vq_codes", pa.list_(pa.uint16())),
        pa.field("vq_grid", pa.list_(pa.uint16())),
        pa.field("outputs", pa.list_(pa.field("item", _OUTPUT, nullable=False)), nullable=False),
        pa.field("model_score", pa.float64()),
        pa.field("answers", pa.list_(pa.field("item", _ANSWER, nullable=False))),
    ]
)
"""Columns of every part, before those that pass through from the manifest. Their meaning: docs/output.md."""

_DONE_COLUMNS = tuple(DONE_SCHEMA.names)

FAILURE_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("error_type", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("failure_class", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("columns", pa.string()),
    ]
)
"""Columns of every file in ``_failures/``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """One image of a finished row; the fields are those of an item of ``outputs``."""

    output: str
    prompt: str
    seed: int
    width: int
    height: int
    sha256: str
    bytes: int
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDone:
    """One of a row's choices; the fields are those of an item of ``answers``."""

    answer: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSuccess:
    """One finished row; the fields are the columns of ``DONE_SCHEMA``, then scores, None where it has none."""

    row: int
    id: str
    task: str
    prompt: str
    output: str | None = None
    text: str | None = None
    width: int | None = None
    height: int | None = None
    steps: int
    cfg_scale: float
    cfg_image_scale: float | None = None
    temperature: float
    seed: int
    preset: str
    num_tokens: int
    finish_reason: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    vq_codes: npt.NDArray[np.uint16] | None = None
    vq_grid: Sequence[int] | None = None
    outputs: tuple[StoredImage, ...] = ()
    model_score: float | None = None
    answers: tuple[AnswerDone, ...] | None = None
    scores: tuple[float | None, ...] = ()
    """Of the run's scorers, in the order of their columns; these follow those of ``DONE_SCHEMA``."""


RowResult = RowSuccess | RowFailure


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Rows by what became of them."""

    num_done: int = 0
    num_failed: int = 0

    def __add__(self, other: "RunTotals") -> "RunTotals":
        return RunTotals(self.num_done + other.num_done, self.num_failed + other.num_failed)


@dataclass(frozen=True, slots=True)
class PartSummary:
    """The metadata of a part; ``retry`` is the retry of the run that made it, 0 for a segment's first part."""

    num_done: int
    failures: tuple[RowFailure, ...]
    retry: int = 0

    @property
    def totals(self) -> RunTotals:
        """The counts alone."""
        return RunTotals(self.num_done, len(self.failures))


def part_bytes(
    row_results: Sequence[RowResult],
    rows: pa.Table,
    first_row: int,
    *,
    writer: str,
    run: str,
    expected_rows: Sequence[int] | None = None,
    retry: int = 0,
    score_columns: Sequence[str] = (),
) -> bytes:
    """The Parquet part of one segment.

    Args:
        rows: The segment's rows as read from the manifest; their pass-through columns are copied.
        writer: Unique to this attempt.
        run: The ``results_digest`` of the run, by which a part of another one is recognized.
        expected_rows: Which rows the part is about, in order; None: all of the segment.
        retry: The retry of the run that makes it; 0 for a segment's first part.
        score_columns: Names of the columns of the scores.
    """
    ordered = sorted(row_results, key=lambda row_result: row_result.row)
    expected = list(range(first_row, first_row + rows.num_rows)) if expected_rows is None else list(expected_rows)
    if [row_result.row for row_result in ordered] != expected:
        raise ValueError(f"segment at row {first_row} needs one outcome a row, got {len(ordered)} for {len(expected)}")
    done = [row_result for row_result in ordered if isinstance(row_result, RowSuccess)]
    failures = [row_result for row_result in ordered if isinstance(row_result, RowFailure)]
    table = pa.Table.from_pylist([_columns(row_result) for row_result in done], schema=DONE_SCHEMA)
    for number, name in enumerate(score_columns):
        scores = pa.array([row_result.scores[number] for row_result in done], pa.float64())
        table = table.append_column(pa.field(name, pa.float64()), scores)
    passing = passthrough_schema(rows.schema)
    kept = _rows_at((row_result.row - first_row for row_result in done), rows.select(passing.names))
    for name in passing.names:
        table = table.append_column(passing.field(name), kept.column(name))
    metadata = {
        "dimoo.format": str(FORMAT_VERSION),
        "dimoo.num_done": str(len(done)),
        "dimoo.failures": json.dumps([failure.to_json() for failure in failures], ensure_ascii=False),
        "dimoo.run": run,
        "dimoo.writer": writer,
        **({"dimoo.retry": str(retry)} if retry else {}),
    }
    return _parquet(table.replace_schema_metadata(metadata))


def _columns(row_result: RowSuccess) -> dict[str, Any]:
    """A row of ``DONE_SCHEMA``; ``asdict`` would copy every value, at a tenth of what a row without an image costs."""
    columns = {name: getattr(row_result, name) for name in _DONE_COLUMNS}
    columns["outputs"] = [asdict(image) for image in row_result.outputs]
    columns["answers"] = None if row_result.answers is None else [asdict(answer) for answer in row_result.answers]
    return columns


def failures_bytes(failures: Sequence[RowFailure]) -> bytes:
    """The file of ``_failures/`` for one segment."""
    return _parquet(pa.Table.from_pylist([failure.to_json() for failure in failures], schema=FAILURE_SCHEMA))


def part_summary(metadata: Mapping[bytes, bytes] | None) -> PartSummary:
    """Read a part's metadata.

    Raises:
        ValueError: If it is not that of a part.
    """
    if not metadata or metadata.get(b"dimoo.format") != str(FORMAT_VERSION).encode():
        raise ValueError("not a part of this format")
    failures = json.loads(metadata[b"dimoo.failures"])
    names = [field.name for field in fields(RowFailure) if field.name != "columns"]
    return PartSummary(
        num_done=int(metadata[b"dimoo.num_done"]),
        failures=tuple(
            RowFailure(**{name: failure[name] for name in names}, columns=failure.get("columns"))
            for failure in failures
        ),
        retry=int(metadata.get(b"dimoo.retry", b"0")),
    )


def _rows_at(indices: Iterable[int], table: pa.Table) -> pa.Table:
    """The rows at increasing indices. By slices: Arrow's ``take`` knows most types, a slice knows them all."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return pa.concat_tables([table.slice(0, 0), *(table.slice(run[0], len(run)) for run in runs)])


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()
