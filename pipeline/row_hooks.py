"""Functions of a user's own inside a run: rows before the engine, results after it. Called beside the engine's thread.

What they raise or reject is the row's failure, of stage ``hook``, and names the function.
"""

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from manifests.cell import shown
from manifests.column import COLUMNS
from manifests.errors import ManifestRowError
from manifests.public_text import public_text
from manifests.row import Row, RowDefaults, RowFailure, cells_of_rows, id_of, parse_row, parse_rows
from pipeline.errors import RunFailed
from pipeline.failure_class import failure_class_of
from pipeline.hook import HookFailed, HookRejected, call_hook, load_hook
from pipeline.hook_settings import HookSettings
from pipeline.made_row import MadeRow
from pipeline.raw_row import RawRow
from pipeline.store_errors import StoreError

Scores = tuple[float | None, ...]
"""One for each of ``HookSettings.scores``, in their order."""


class RowHooks:
    """The hooks of one worker. Several threads call them at once.

    Raises:
        ConfigError: One cannot be loaded.
    """

    def __init__(self, settings: HookSettings, defaults: RowDefaults) -> None:
        loaded = {name: load_hook(name) for name in dict.fromkeys(settings.names)}
        self._rows = [(name, loaded[name]) for name in settings.rows]
        self._results = [(name, loaded[name]) for name in settings.results]
        self._scores = [(score, name, loaded[name]) for score, name in settings.scores.items()]
        self._min_scores = settings.min_scores
        self._defaults = defaults

    @property
    def look_at_results(self) -> bool:
        """Whether any hook is called after the engine."""
        return bool(self._results or self._scores)

    def rows(self, table: pa.Table, first_index: int) -> Iterator[Row | RowFailure | RawRow]:
        """The rows of a segment in order: parsed, or raw if hooks look at them first."""
        if not self._rows:
            yield from parse_rows(table, first_index, self._defaults)
            return
        for index, cells in enumerate(cells_of_rows(table), first_index):
            try:
                row_id = id_of(cells)
            except ManifestRowError:
                yield from parse_rows(table.slice(index - first_index, 1), index, self._defaults)
            else:
                yield RawRow(index, row_id, {**cells, "id": row_id})

    def before(self, raw: RawRow) -> Row | RowFailure:
        """What the hooks make of a row, parsed; or why it is not run."""
        cells = raw.cells
        try:
            for name, hook in self._rows:
                changed = call_hook(name, hook, dict(cells))
                cells = {**_kept(name, changed, dict), "id": changed.get("id")}
                _check_cells(name, raw, cells)
            return parse_row(cells, raw.index, self._defaults)
        except (HookFailed, HookRejected) as error:
            return _failure(raw, error)
        except ManifestRowError as error:
            message = f"{error} (after {', '.join(name for name, _ in self._rows)})"
            return RowFailure(raw.index, raw.id, "manifest", type(error).__name__, message)

    def after(self, row: Row, made: MadeRow) -> Scores | RowFailure:
        """Let the hooks change a finished row in place, and score it; or why it is not wanted.

        Raises:
            RunFailed: The input image cannot be read for reasons that are not the row's.
        """
        try:
            for name, hook in self._results:
                before = dict(made.cells)
                _kept(name, call_hook(name, hook, made), MadeRow)
                _check_made(name, before, made.cells)
            return tuple(self._score(made, *each) for each in self._scores)
        except (HookFailed, HookRejected) as error:
            if isinstance(error.__cause__, RunFailed):
                raise error.__cause__ from error  # met while the hook looked at the input image
            if isinstance(error.__cause__, StoreError):
                return _failure(row, error.__cause__, "fetch")
            return _failure(row, error)

    def _score(self, made: MadeRow, score: str, name: str, hook: Any) -> float | None:
        value = call_hook(name, hook, made)
        if value is None:
            return None
        if isinstance(value, bool) or not hasattr(value, "__float__") or not math.isfinite(value):
            raise HookFailed(f"hook {name!r} must return a finite number or None, got {shown(value)}")
        least = self._min_scores.get(score)
        if least is not None and float(value) < least:
            raise HookRejected(f"score {score} is {float(value):.6g}, the least is {least:g}")
        return float(value)


def _kept(name: str, returned: Any, kind: type) -> Any:
    """What a hook gave back, if it wants the row.

    Raises:
        HookRejected: It does not; with its reason, if it gave one.
        HookFailed: That is nothing which a hook may return.
    """
    if returned is None or isinstance(returned, str):
        raise HookRejected(f"hook {name!r} rejected it" + (f": {returned}" if returned else ""))
    if not isinstance(returned, kind):
        wanted = "a dict" if kind is dict else "the row"
        raise HookFailed(
            f"hook {name!r} must return {wanted}, None, or a reason to reject it, got {type(returned).__name__}"
        )
    return returned


def _check_cells(name: str, raw: RawRow, cells: dict[str, Any]) -> None:
    where = f"hook {name!r}"
    if cells["id"] is None:
        cells["id"] = raw.id
    if cells["id"] != raw.id:
        raise HookFailed(f"{where} must leave id as it is, {raw.id!r}: the row is known by it; got {cells['id']!r}")
    for column, value in cells.items():
        if column not in COLUMNS and column not in raw.cells:
            raise HookFailed(f"{where} added the column {shown(column)}, which no task knows")
        if column not in COLUMNS and value is not raw.cells[column]:
            raise HookFailed(f"{where} changed {column!r}, which reaches the output as the manifest has it")


def _check_made(name: str, before: dict[str, Any], cells: dict[str, Any]) -> None:
    where = f"hook {name!r}"
    for column in before.keys() | cells.keys():
        if column != "text" and (column not in before or cells.get(column) is not before[column]):
            raise HookFailed(f"{where} changed {column!r}: of a finished row only text and pixels may be changed")
    if type(cells.get("text")) is not type(before["text"]):
        kind = type(before["text"]).__name__
        raise HookFailed(f"{where} must leave text what it is, {kind}; got {shown(cells.get('text'))}")


def _failure(row: Row | RawRow, error: HookFailed | HookRejected | StoreError, stage: str = "hook") -> RowFailure:
    attempts = error.attempts if isinstance(error, StoreError) else 1
    message = public_text(str(error))
    return RowFailure(row.index, row.id, stage, type(error).__name__, message, failure_class_of(error), attempts)
