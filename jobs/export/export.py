"""Exports the finished rows of a run."""

import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

import pyarrow as pa

from dimoo_core.errors import ConfigError
from jobs.export.base import Export, ExportSetup, ExportTarget
from jobs.export.formats import FORMATS
from jobs.export.rows import FinishedRow, FinishedRows
from jobs.text import WordFilter
from pipeline.rows.hooks import HookFailed, call_hook, load_hook
from pipeline.storage.reader import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export, how and where; the options of ``dimoo-batch export``."""

    output: str
    format: str
    target: str
    is_partial: bool = False
    with_sources: bool = False
    overwrites: bool = False
    drop: tuple[str, ...] = ()
    model_name: str = "dimoo"
    manifest: str | None = None
    hooks: tuple[str, ...] = ()
    score: str | None = None
    min_score: float | None = None
    blocklist: Path | None = None
    min_words: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was exported."""

    target: str
    format: str
    rows: int
    images: int
    empty_texts: int
    files: int
    filtered: int


def export_run(request: ExportRequest) -> ExportReport:
    """Export a run; memory does not grow with its rows.

    Raises:
        ConfigError: An option is wrong, or the target is not empty.
        NotARun: There is no run, or it has not ended.
        StoreError: The output, an input image or the target cannot be reached.
    """
    if request.format not in FORMATS:
        raise ConfigError(f"--to must be one of {', '.join(FORMATS)}, got {request.format!r}")
    form = FORMATS[request.format]
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(request.output)))
        with_sources = request.with_sources or form.needs_inputs
        rows = FinishedRows(
            store, is_partial=request.is_partial, with_sources=with_sources, manifest_uri=request.manifest
        )
        stack.enter_context(closing(rows))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dimoo-export-")))
        row_filter = RowFilter(request)
        schema = row_filter.extended(_without(rows.schema, request.drop))
        target = ExportTarget(request.target, scratch, overwrites=request.overwrites)
        setup = ExportSetup(
            target=target,
            facts=rows.facts,
            schema=schema,
            with_source=with_sources,
            with_several=rows.has_several_images,
            model_name=request.model_name,
        )
        export: Export = stack.enter_context(closing(resolve_name(form.writer)(setup)))
        num_rows = num_images = num_empty = 0
        for found in rows:
            for name in request.drop:
                found.cells.pop(name, None)
            row = row_filter.passed(found)
            if row is None:
                continue
            export.add(row)
            num_rows += 1
            num_images += row.image is not None
            num_empty += _has_empty_text(row)
        export.finish()
    return ExportReport(
        target=request.target,
        format=request.format,
        rows=num_rows,
        images=num_images,
        empty_texts=num_empty,
        files=target.num_files,
        filtered=row_filter.num_refused,
    )


class RowFilter:
    """Which finished rows are exported, and what hooks make of them."""

    def __init__(self, request: ExportRequest) -> None:
        if request.min_score is not None and request.score is None:
            raise ConfigError("--min-score needs --score, the function that scores rows")
        self.num_refused = 0
        self._words = WordFilter(request.blocklist, request.min_words)
        self._hooks = [(name, load_hook(name)) for name in request.hooks]
        self._score = None if request.score is None else (request.score, load_hook(request.score))
        self._min_score = request.min_score

    def extended(self, schema: pa.Schema) -> pa.Schema:
        """The columns with ``score``, if rows are scored."""
        if self._score is None:
            return schema
        if "score" in schema.names:
            raise ConfigError("the rows have a column 'score' already: --drop score")
        return schema.append(pa.field("score", pa.float64()))

    def passed(self, row: FinishedRow) -> FinishedRow | None:
        """The row as it is exported; None if it is left out."""
        passed = self._passed(row)
        self.num_refused += passed is None
        return passed

    def _passed(self, row: FinishedRow) -> FinishedRow | None:
        where = f"row {row.cells['row']}"
        for name, hook in self._hooks:
            changed = call_hook(name, hook, row, where)
            if changed is None:
                return None
            if not isinstance(changed, FinishedRow):
                raise HookFailed(f"{where}: hook {name!r} must return the row or None, got {type(changed).__name__}")
            row = changed
        if self._words.refuses(row.words):
            return None
        if self._score is not None:
            score = call_hook(*self._score, row, where)
            if isinstance(score, bool) or not isinstance(score, int | float):
                raise HookFailed(f"{where}: hook {self._score[0]!r} must return a number, got {type(score).__name__}")
            if self._min_score is not None and not score >= self._min_score:
                return None
            row.cells["score"] = float(score)
        return row


def _has_empty_text(row: FinishedRow) -> bool:
    text = row.cells.get("text")
    return isinstance(text, str) and not text.strip()


def _without(schema: pa.Schema, drop: tuple[str, ...]) -> pa.Schema:
    for name in drop:
        if name in ("row", "prompt", "text", "output", "sha256") or name not in schema.names:
            raise ConfigError(f"--drop {name}: there is no such column, or every export needs it")
    return pa.schema([field for field in schema if field.name not in drop])
