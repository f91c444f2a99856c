"""Which of a manifest's own columns the page can be narrowed by: those of a few short values that come again."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.report.row import ReportRow
from manifests.columns import COLUMNS
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

    def to_json(self) -> dict[str, Any]:
        """For the page's script."""
        return {"name": self.name, "values": list(self.values)}


def column_filters(rows: Iterable[ReportRow]) -> list[ColumnFilter]:
    """The first ``MAX_FILTERS`` columns that have 2 to ``MAX_VALUES`` different texts, whole numbers or booleans."""
    counts: dict[str, Counter[str]] = {}
    unfit: set[str] = set(_NOT_OWN)
    for row in rows:
        _count(row.extra, counts, unfit)
    fit = [name for name, values in counts.items() if name not in unfit and _is_worth_it(values)]
    return [ColumnFilter(name, tuple(counts[name])) for name in fit[:MAX_FILTERS]]


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


def _is_worth_it(values: Counter[str]) -> bool:
    return len(values) > 1 and values.total() >= _MIN_REPEATS * len(values)


def _text(value: object) -> str | None:
    """As JavaScript writes the value; None where nobody would pick it from a list."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) and len(value) <= _MAX_VALUE_CHARS else None
