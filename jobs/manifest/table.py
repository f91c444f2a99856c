"""Records gathered into tables of one schema, each row checked by the parsing that a run does."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from dimoo_core.errors import DimooError
from jobs.manifest.readers import delimiter_hint
from jobs.manifest.record import Record, stored_cell, stored_type
from manifests.cells import short_repr
from manifests.columns import COLUMNS
from manifests.errors import ManifestError, ManifestRowError
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from manifests.row.task_name import find_task
from manifests.schema import check_schema, is_taken, nearest_name
from manifests.tasks import Task

_MAX_LISTED = 12
_EQUAL_RATIO = 1.0  # for a task there is an option, so that only its own name in other letters is worth a guess


def missing_column(names: Collection[str], task: Task | None) -> str | None:
    """The message where no row has a column that the task's rows need, or none names a task; None if all are there."""
    if task is None:
        if "task" in names:
            return None
        hint = _hint(("task",), names, _EQUAL_RATIO)
        return f"no column 'task' and no --task{hint or ': give --task, see dimoo-batch tasks'}"
    for needed in _needed(task):
        if not set(needed).intersection(names):
            wanted = " or ".join(map(repr, needed))
            option = "--prompt, or " if needed == ("prompt",) else ""
            found = ", ".join([name for name in names if name not in COLUMNS][:_MAX_LISTED])
            give = f": give {option}a column {wanted}"
            hint = f"; found {found}{give}, or --rename NAME={needed[0]}" if found else give
            hint = _hint(needed, names) or hint
            return f"no column {wanted}, which task {task.name!r} needs{hint}"
    return None


def _needed(task: Task) -> Iterator[tuple[str, ...]]:
    """Columns that a row of the task fills, or of which it fills one."""
    if task.needs_prompt:
        yield ("prompt",)
    yield from ((column,) for column in task.needed_columns)
    if task.one_of:
        yield task.one_of


def _hint(needed: Collection[str], names: Collection[str], ratio: float = 0.6) -> str:
    """What was probably meant, and how to give it; empty if nothing comes near."""
    unknown = [name for name in names if name not in COLUMNS]
    for name in unknown:
        if mended := delimiter_hint(name):
            return f"; found {name!r}: {mended}"
    for column in needed:
        if near := nearest_name(column, unknown, ratio):
            return f"; found {near!r}: did you mean that? If so, give --rename '{near}={column}'"
    return ""


MAX_TABLE_ROWS = 50_000
MAX_TABLE_BYTES = 32 * 2**20
_ROWS_AHEAD = 20
SCHEMA_ROWS = 2_000
"""Rows from which the types of columns that pass through are inferred, where the source has none."""


@dataclass(slots=True)
class BuildCounts:
    """What became of the records; ``reasons`` are the first of the invalid ones, which may be left out or end all."""

    skips_invalid: bool
    num_rows: int = 0
    num_invalid: int = 0
    num_duplicates: int = 0
    num_of_task: dict[str, int] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def refuse(self, reason: str, *, is_row_alone: bool = True) -> None:
        """Count an invalid record in, or end the build; ``is_row_alone``: others may be valid."""
        if not self.skips_invalid:
            raise ManifestError(f"{reason} (leave such rows out with --skip-invalid)" if is_row_alone else reason)
        self.num_invalid += 1
        if len(self.reasons) < 20:
            self.reasons.append(reason)


@dataclass(slots=True, kw_only=True)
class RowTables:
    """Gathers records into tables.

    Attributes:
        defaults: Of the job, for the check of each row.
        types: Types of columns that pass through, where they are known; the others' are inferred from the first rows.
        embeds_images: Whether image cells are kept as bytes with a name.
    """

    defaults: RowDefaults
    types: Mapping[str, pa.DataType]
    embeds_images: bool
    counts: BuildCounts
    _schema: pa.Schema | None = field(default=None, init=False)
    _names: dict[str, None] = field(default_factory=dict, init=False)  # of all columns seen, in order
    _refused: Record | None = field(default=None, init=False)

    def gather(self, records: Iterable[Record]) -> Iterator[pa.Table]:
        """Tables of at most ``MAX_TABLE_ROWS`` rows and about ``MAX_TABLE_BYTES``, all of one schema.

        Raises:
            ManifestError: A row is invalid and not to be skipped, or does not go with the rows before it; or no row is
                valid, as all lack a column.
        """
        rows: list[Record] = []
        size = 0
        following = iter(records)
        for record in following:
            checked = self._checked(record, following)
            if checked is None:
                continue
            rows.append(checked)
            size += _cells_bytes(checked.cells)
            if len(rows) >= MAX_TABLE_ROWS or size >= MAX_TABLE_BYTES:
                yield self._table(rows)
                rows, size = [], 0
        if rows:
            yield self._table(rows)
        if not self.counts.num_rows and self._refused is not None:
            missing, is_of_all = self._missing_column(self._refused)
            if is_of_all:
                raise ManifestError(missing)

    def _checked(self, record: Record, following: Iterator[Record]) -> Record | None:
        self._names.update(dict.fromkeys(record.cells))
        try:
            cells = {_free_name(name): value for name, value in record.cells.items()}
            for name in cells:
                if name in COLUMNS:
                    cells[name] = stored_cell(name, cells[name], embeds_images=self.embeds_images)
            row = parse_row(cells, self.counts.num_rows, self.defaults)
        except ManifestRowError as error:
            self._refuse(record, error, following)
            return None
        self.counts.num_rows += 1
        self.counts.num_of_task[row.task] = self.counts.num_of_task.get(row.task, 0) + 1
        return record.with_cells(cells)

    def _refuse(self, record: Record, error: ManifestRowError, following: Iterator[Record]) -> None:
        """Raise the error of the row, or else that of the columns of all."""
        self._refused = record
        reason, is_of_all = f"{record.where}: {error}", False
        if not self.counts.skips_invalid:
            with suppress(DimooError):  # what is wrong further on is not what ends the build
                for later in islice(following, _ROWS_AHEAD):
                    self._names.update(dict.fromkeys(later.cells))
            missing, is_of_all = self._missing_column(record)
            reason = missing or reason
        self.counts.refuse(reason, is_row_alone=not is_of_all)

    def _missing_column(self, record: Record) -> tuple[str | None, bool]:
        """A column that no row has and this one needs, with the place; and whether every row needs it."""
        name = record.cells.get("task") or self.defaults.task
        missing = missing_column(self._names, find_task(name) if isinstance(name, str) else None)
        is_of_all = missing is not None and (self.defaults.task is not None or "task" not in self._names)
        place = record.source_uri if is_of_all else record.where
        return (f"{place}: {missing}" if missing is not None and place else missing), is_of_all

    def _table(self, rows: list[Record]) -> pa.Table:
        if self._schema is None:
            self._schema = self._told_schema(rows[:SCHEMA_ROWS])
            check_schema(self._schema, defaults=self.defaults, uri=rows[0].source_uri or rows[0].where)
        for record in rows:
            unknown = [name for name in record.cells if name not in self._schema.names]
            if any(record.cells[name] is not None for name in unknown):
                raise ManifestError(
                    f"{record.where}: column {unknown[0]!r} is not in the first {SCHEMA_ROWS} rows: give its type, as "
                    f"in --type {unknown[0]}=string"
                )
        columns = [self._column(field, rows) for field in self._schema]
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _column(self, field: pa.Field, rows: list[Record]) -> pa.Array:
        values = [record.cells.get(field.name) for record in rows]
        try:
            return pa.array(values, type=field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            for record, value in zip(rows, values, strict=True):
                if not _fits(value, field.type):
                    raise ManifestError(
                        f"{record.where}: column {field.name!r} has type {field.type}, got {short_repr(value)}: give a "
                        f"type that holds all, as in --type {field.name}=string"
                    ) from error
            raise

    def _told_schema(self, rows: list[Record]) -> pa.Schema:
        names = list(dict.fromkeys(name for record in rows for name in record.cells))
        ordered = [*(name for name in COLUMNS if name in names), *(name for name in names if name not in COLUMNS)]
        return pa.schema([(name, self._type(name, rows)) for name in ordered])

    def _type(self, name: str, rows: list[Record]) -> pa.DataType:
        kept = stored_type(name, embeds_images=self.embeds_images)
        if kept is None:
            kept = self.types.get(name)
        if kept is not None:
            return kept
        values = [record.cells.get(name) for record in rows]
        try:
            told = pa.array(values).type
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise ManifestError(
                f"{rows[0].where} and after: the values of column {name!r} have no common type: give one with --type "
                f"{name}=string"
            ) from error
        return pa.string() if pa.types.is_null(told) else told


def _free_name(name: str) -> str:
    """The name a column has in the manifest: those of the output's columns are taken."""
    return f"source_{name}" if is_taken(name) else name


def _fits(value: Any, dtype: pa.DataType) -> bool:
    try:
        pa.array([value], type=dtype)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _cells_bytes(cells: Mapping[str, Any]) -> int:
    size = 0
    for value in cells.values():
        if isinstance(value, Mapping):
            size += _cells_bytes(value)
        elif isinstance(value, str | bytes):
            size += len(value)
        else:
            size += 8
    return size
