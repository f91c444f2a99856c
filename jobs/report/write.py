"""Writes the report of an output: what ``dimoo-batch report`` does."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

from jobs.report.card import CARD_KEY, dataset_card
from jobs.report.contact_sheet import CONTACT_SHEET_KEY, contact_sheet
from jobs.report.facts import RunFactSheet
from jobs.report.manifest_rows import find_manifest, read_cells
from jobs.report.page_html import PAGE_KEY, data_chunks, page_html
from jobs.report.pictures import PictureShelf
from jobs.report.row import ReportRow
from jobs.report.run_rows import read_rows
from jobs.report.statistics import RunStatistics
from pipeline.epoch_report import read_epoch_reports
from pipeline.errors import NotARun
from pipeline.object_reader import open_store
from pipeline.run_directory import SUCCESS_KEY, RunDirectory
from pipeline.store import Store

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

    def to_json(self) -> str:
        """For programs."""
        return json.dumps(asdict(self))


def write_report(output: str, say: Callable[[str], None], *, manifest: str | None, max_rows: int) -> ReportSummary:
    """Write page, contact sheet and card into an output; what was there of them is replaced.

    Args:
        output: Of a run, finished or not.
        say: Told in a line what the report lacks.
        manifest: Where the manifest is now; None: where the run found it.
        max_rows: Rows on the page; of more, every n-th is shown, while counts and plots are of all.

    Raises:
        ConfigError: ``output`` cannot be opened, or ``manifest`` is that of another run.
        NotARun: No run lies there.
        StoreError: The store cannot be read or written.
    """
    store = open_store(output)
    try:
        return _Report(store, say).write(manifest, max_rows)
    finally:
        store.close()


class _Report:
    """One report under way."""

    def __init__(self, store: Store, say: Callable[[str], None]) -> None:
        self._store = store
        self._say = say
        self._notes: list[str] = []
        self._missing: Counter[str] = Counter()

    def write(self, manifest: str | None, max_rows: int) -> ReportSummary:
        store, statistics = self._store, RunStatistics()
        description = RunDirectory(store).description()
        if description is None:
            raise NotARun(f"{store.uri} is not the output of a run: it has no run.json")
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
            self._note(f"{len(self._missing)} images cannot be read: dimoo-batch verify says what is wrong")
        source = find_manifest(manifest, facts.description, self._note)
        if source is not None:
            by_row = {row.row: row for row in rows}
            shelf.add_sources(read_cells(source, set(by_row)), by_row)

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
        self._say(line)
