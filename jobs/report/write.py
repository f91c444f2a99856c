"""Writes the report of an output: what ``dimoo-batch report`` does."""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from jobs.report.card import CARD_KEY, dataset_card
from jobs.report.facts import RunFactSheet
from jobs.report.page_html import PAGE_KEY, data_chunks, page_html
from jobs.report.pictures import CONTACT_SHEET_KEY, PictureShelf, contact_sheet
from jobs.report.row import ReportRow, find_manifest, read_cells
from jobs.report.statistics import RunStatistics
from manifests.files.parquet import ParquetReader
from pipeline.ordered_map import thread_map
from pipeline.output.directory import SUCCESS_KEY, RunDirectory
from pipeline.output.epoch import read_epoch_reports
from pipeline.output.parts import PARTS_PREFIX, PartName, parts_by_segment
from pipeline.storage.base import Store
from pipeline.storage.errors import StoreError
from pipeline.storage.reader import open_store

log = logging.getLogger("dimoo_batch.jobs")

_READ_THREADS = 4
_BATCH_ROWS = 1024


def read_rows(store: Store, statistics: RunStatistics, *, num_rows: int, max_rows: int) -> list[ReportRow]:
    """Count every committed row into ``statistics`` and return those to be shown, in row order.

    Args:
        statistics: Counts; filled here.
        num_rows: Of the whole run.
        max_rows: Where there are more rows, every n-th is returned, and every failure as far as there is room.

    Raises:
        StoreError: A part cannot be read; code ``DamagedPart`` if it is none.
    """
    stride = max(1, -(-num_rows // max_rows))
    shown: list[ReportRow] = []
    failures: list[ReportRow] = []
    segments = parts_by_segment(store.list(PARTS_PREFIX))
    for rows in thread_map(lambda parts: _rows_of(store, parts), segments, num_threads=_READ_THREADS):
        for row in rows:
            statistics.add(row)
            if row.row % stride == 0:
                shown.append(row)
            elif not row.is_done and len(failures) < max_rows // 4:
                failures.append(row)
    return sorted([*shown, *failures], key=lambda row: row.row)


def _rows_of(store: Store, parts: tuple[PartName, ...]) -> list[ReportRow]:
    """The rows of a segment: finished ones of all its parts, failed ones of the last."""
    return [row for name in parts for row in _rows_of_part(store, name.key, is_last=name == parts[-1])]


def _rows_of_part(store: Store, key: str, *, is_last: bool) -> Iterator[ReportRow]:
    with store.open(key) as file:
        try:
            parquet = ParquetReader(file)
            for failure in json.loads(parquet.key_values[b"dimoo.failures"]):
                if is_last:
                    yield ReportRow.from_failure(failure)
            for record in parquet.rows(_BATCH_ROWS):
                yield ReportRow.from_part(record)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError("read", store.uri_of(key), "DamagedPart", "run dimoo-batch verify for details") from error


REPLAY_PREFIX = "replay/"
"""Where ``dimoo-batch replay`` leaves its pictures."""

_STRIP = re.compile(r"replay/(?P<row>\d{10})/step-\d+\.webp")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSummary:
    """What was written: ``shown`` of ``rows`` committed rows are on the page."""

    page: str
    card: str
    contact_sheet: str | None
    rows: int
    shown: int
    failed: int
    pictures_missing: int


def write_report(output: str, *, manifest: str | None, max_rows: int) -> ReportSummary:
    """Write page, contact sheet and card into an output; what was there of them is replaced.

    Args:
        output: Of a run, finished or not.
        manifest: Where the manifest is now; None: where the run found it.
        max_rows: Rows on the page; of more, every n-th is shown, while counts and plots are of all.

    Raises:
        ConfigError: ``output`` cannot be opened, or ``manifest`` is that of another run.
        NotARun: No run is there.
        StoreError: The store cannot be read or written.
    """
    with closing(open_store(output)) as store:
        return _Report(store).write(manifest, max_rows)


class _Report:
    """One report under way."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._notes: list[str] = []
        self._missing: Counter[str] = Counter()

    def write(self, manifest: str | None, max_rows: int) -> ReportSummary:
        store, statistics = self._store, RunStatistics()
        description = RunDirectory(store).known_description()
        facts = RunFactSheet(description, store.size(SUCCESS_KEY) is not None)
        rows = read_rows(store, statistics, num_rows=facts.num_rows, max_rows=max_rows)
        self._add_pictures(rows, manifest, facts)
        self._add_strips(rows)
        sheet = contact_sheet(store, rows)
        if sheet is not None:
            store.put(CONTACT_SHEET_KEY, sheet, content_type="image/png")
        for key, script in data_chunks(rows):
            store.put(key, script, content_type="text/javascript; charset=utf-8")
        page = page_html(facts, statistics, rows, self._notes, read_epoch_reports(store))
        store.put(PAGE_KEY, page, content_type="text/html; charset=utf-8")
        card = dataset_card(facts, statistics, rows, has_sheet=sheet is not None)
        store.put(CARD_KEY, card.encode(), content_type="text/markdown; charset=utf-8")
        return ReportSummary(
            page=store.uri_of(PAGE_KEY),
            card=store.uri_of(CARD_KEY),
            contact_sheet=store.uri_of(CONTACT_SHEET_KEY) if sheet is not None else None,
            rows=statistics.num_done + statistics.num_failed,
            shown=len(rows),
            failed=statistics.num_failed,
            pictures_missing=self._missing.total(),
        )

    def _add_pictures(self, rows: list[ReportRow], manifest: str | None, facts: RunFactSheet) -> None:
        shelf = PictureShelf(self._store)
        shelf.add_thumbs(rows, lambda key: self._missing.update([key]))
        if self._missing:
            self._note(f"{len(self._missing)} images cannot be read: run `dimoo-batch verify` for details")
        source = find_manifest(manifest, facts, self._note)
        if source is not None:
            by_row = {row.row: row for row in rows}
            shelf.add_sources(read_cells(source, set(by_row)), by_row, facts.sources)

    def _add_strips(self, rows: list[ReportRow]) -> None:
        """Pictures of steps that a replay has left."""
        strips: dict[int, list[str]] = {}
        for key in self._store.list(REPLAY_PREFIX):
            if match := _STRIP.fullmatch(key):
                strips.setdefault(int(match["row"]), []).append(key)
        for row in rows:
            row.strip = sorted(strips.get(row.row, []))

    def _note(self, line: str) -> None:
        self._notes.append(line)
        log.info(line)
