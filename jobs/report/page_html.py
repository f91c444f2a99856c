"""The page: a template with everything inlined, and the rows beyond the first ones as scripts beside it.

Data comes as scripts, since a page that was opened from a disk may not read files. The page can be filtered by those of
a manifest's extra columns that have few short values.
"""

import base64
import hashlib
import importlib.metadata
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from jobs.report.charts import course_plots, plots
from jobs.report.facts import RunFactSheet
from jobs.report.row import ReportRow
from jobs.report.statistics import RunStatistics
from manifests.columns import COLUMNS
from pipeline.output.epoch import EpochReport
from pipeline.output.results import DONE_SCHEMA, FAILURE_SCHEMA

MAX_FILTERS = 3
MAX_VALUES = 20
_MAX_VALUE_CHARS = 60
_MIN_REPEATS = 2  # rows that have a value, on average: an id or a title finds nothing but its row
_NOT_OWN = frozenset({*COLUMNS, *DONE_SCHEMA.names, *FAILURE_SCHEMA.names})


@dataclass(frozen=True, slots=True)
class ColumnFilter:
    """A column and its values as the page's script writes them, in no order."""

    name: str
    values: tuple[str, ...]


def column_filters(rows: Iterable[ReportRow]) -> list[ColumnFilter]:
    """The first ``MAX_FILTERS`` columns that have 2 to ``MAX_VALUES`` different texts, whole numbers or booleans."""
    counts: dict[str, Counter[str]] = {}
    unfit: set[str] = set(_NOT_OWN)
    for row in rows:
        _count(row.extra, counts, unfit)
    fit = [
        ColumnFilter(name, tuple(values))
        for name, values in counts.items()
        if name not in unfit and len(values) > 1 and values.total() >= _MIN_REPEATS * len(values)
    ]
    return fit[:MAX_FILTERS]


def _count(cells: Mapping[str, Any], counts: dict[str, Counter[str]], unfit: set[str]) -> None:
    for name, value in cells.items():
        if name in unfit:
            continue
        text = _text(value)
        values = counts.setdefault(name, Counter())
        if text is None or (text not in values and len(values) == MAX_VALUES):
            unfit.add(name)
        else:
            values[text] += 1


def _text(value: object) -> str | None:
    """As JavaScript writes the value; None where nobody would pick it from a list."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) and len(value) <= _MAX_VALUE_CHARS else None


PAGE_KEY = "report/index.html"
DATA_PREFIX = "report/data/"
FIRST_ROWS = 120
CHUNK_ROWS = 1000
_TEMPLATES = Environment(loader=PackageLoader("jobs.report", "page"), autoescape=True, undefined=StrictUndefined)


def data_chunks(rows: Sequence[ReportRow]) -> Iterator[tuple[str, bytes]]:
    """Keys and scripts of the rows that are not in the page itself."""
    later = rows[FIRST_ROWS:]
    for number, start in enumerate(range(0, len(later), CHUNK_ROWS)):
        text = f"dimooRows({_json([row.to_json() for row in later[start : start + CHUNK_ROWS]])});\n"
        yield f"{DATA_PREFIX}rows-{number:05d}.js", text.encode()


def page_html(
    facts: RunFactSheet,
    statistics: RunStatistics,
    rows: Sequence[ReportRow],
    notes: Sequence[str],
    reports: Sequence[EpochReport] = (),
) -> bytes:
    """The page of a run.

    Args:
        notes: Lines about what the page lacks.
        reports: Of the starts of the run.
    """
    folder = files("jobs.report") / "page"
    script = (folder / "app.js").read_text(encoding="utf-8")
    num_chunks = -(-max(0, len(rows) - FIRST_ROWS) // CHUNK_ROWS)
    data = {
        "title": facts.title,
        "rows": statistics.num_done + statistics.num_failed,
        "shown": len(rows),
        "sorts": list(_sorts(rows)),
        "columns": [asdict(column) for column in column_filters(rows)],
        "chunks": [f"data/rows-{number:05d}.js" for number in range(num_chunks)],
        "first": [row.to_json() for row in rows[:FIRST_ROWS]],
    }
    page = _TEMPLATES.get_template("index.html").render(
        csp=_policy(script),
        facts=facts,
        statistics=statistics,
        style=(folder / "style.css").read_text(encoding="utf-8"),
        script=script,
        data=_json(data).replace("<", "\\u003c"),
        tiles=_tiles(facts, statistics),
        plots=[*course_plots(reports), *plots(statistics)],
        notes=notes,
        version=importlib.metadata.version("dimoo-batch"),
    )
    return page.encode()


def _sorts(rows: Sequence[ReportRow]) -> Iterator[str]:
    """The orders, beside that of the rows, that there is something to sort by for."""
    if any(row.text for row in rows):
        yield "words"
    if any(row.num_bytes for row in rows):
        yield "bytes"
    if any(row.score is not None for row in rows):
        yield "score"


def _policy(script: str) -> str:
    """What the page may load: its own script, data and pictures beside it, and nothing from elsewhere."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' file: 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src 'self' file: data:; base-uri 'none'; form-action 'none'"
    )


def _tiles(facts: RunFactSheet, statistics: RunStatistics) -> list[tuple[str, str]]:
    counts = {
        "rows": facts.num_rows,
        "done": statistics.num_done,
        "failed": statistics.num_failed,
        "images": statistics.num_images,
        "texts": statistics.num_texts,
    }
    return [*((f"{count:,}", name) for name, count in counts.items()), _bytes(statistics.image_bytes)]


def _bytes(count: int) -> tuple[str, str]:
    """A number of bytes in the unit that suits it."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f}" if value >= 100 else f"{value:.3g}", unit
        value /= 1024
    return f"{value:,.1f}", "TiB"


def _json(value: object) -> str:
    # Line separators of Unicode end a line in older scripts.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
