"""One row as the report shows it, and its cells in the manifest."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from dimoo_core.errors import DimooError
from jobs.report.facts import RunFactSheet
from manifests.errors import ManifestRowError
from manifests.row.images import ImageSource, image_source, image_sources
from pipeline.manifest import ManifestSource, segment_reader
from pipeline.storage.uri import folder_of

_SEGMENT_ROWS = 64


@dataclass(frozen=True, slots=True)
class ManifestCell:
    """The manifest's cells of one row; ``image`` is the first of several."""

    row: int
    task: str | None
    prompt: str | None
    image: ImageSource | None
    folder_uri: str


def find_manifest(given: str | None, facts: RunFactSheet, note: Callable[[str], None]) -> ManifestSource | None:
    """The manifest of a run; None, and a line with the reason, if it is not where the run found it.

    Args:
        given: Where it is now; None looks where ``run.json`` has it.
        note: Called with the reason why there are no input images.
    """
    try:
        return facts.manifest(given)
    except DimooError as error:
        if given is not None:
            raise
        note(f"without input images: {error}; --manifest says where the manifest is")
        return None


def read_cells(source: ManifestSource, wanted: set[int]) -> Iterator[ManifestCell]:
    """Cells of the wanted rows, in row order; a cell that is wrong is left out."""
    with segment_reader() as reader:
        for segment in source.plan(segment_rows=_SEGMENT_ROWS, limit=None):
            rows = [row for row in range(segment.first_row, segment.first_row + segment.num_rows) if row in wanted]
            if not rows:
                continue
            table = reader.read(segment)
            table = table.select([name for name in ("task", "prompt", "image", "images") if name in table.column_names])
            for row in rows:
                (record,) = table.slice(row - segment.first_row, 1).to_pylist()
                yield _cell(row, record, folder_of(segment.file_uri))


def _cell(row: int, record: Mapping[str, Any], folder_uri: str) -> ManifestCell:
    image = None
    with suppress(ManifestRowError):  # that row has failed, for this very reason
        image = image_source(record.get("image")) or next(iter(image_sources(record.get("images"))), None)
    return ManifestCell(row, _text(record.get("task")), _text(record.get("prompt")), image, folder_uri)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


SETTINGS = (
    "seed",
    "steps",
    "cfg_scale",
    "cfg_image_scale",
    "temperature",
    "preset",
    "num_tokens",
    "finish_reason",
    "sha256",
)
"""Columns of a part that are shown as they are."""

_OWN = {"row", "id", "task", "prompt", "output", "outputs", "answers", "text", "width", "height", "bytes", *SETTINGS}
_OF_FAILURE = ("failure_class", "attempts")
_MAX_EXTRA_CHARS = 2000
_MAX_EXACT = 2**53
"""Whole numbers beyond are rounded by browsers, so they go as text."""

_PAGE_NAMES = {
    "is_done": "ok",
    "width": "w",
    "height": "h",
    "num_bytes": "bytes",
    "settings": "set",
    "error_type": "error",
}
"""Fields that the page's script has under a shorter name: there may be many rows."""


@dataclass(slots=True, kw_only=True)
class ReportRow:
    """What is known of one row; keys and paths are relative to the root of the output.

    ``thumb`` and ``source`` are small pictures of the result and of the input image, ``strip`` those of its steps;
    ``extra`` are columns that passed through from the manifest.
    """

    row: int
    id: str
    task: str = ""
    prompt: str = ""
    is_done: bool = True
    image: str | None = None
    text: str | None = None
    width: int | None = None
    height: int | None = None
    num_bytes: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    stage: str = ""
    error_type: str = ""
    message: str = ""
    thumb: str | None = None
    source: str | None = None
    strip: list[str] = field(default_factory=list)

    @classmethod
    def from_part(cls, record: Mapping[str, Any]) -> "ReportRow":
        """A finished row."""
        return cls(
            row=record["row"],
            id=record["id"],
            task=record["task"],
            prompt=record["prompt"],
            image=record["output"],
            text=None if record["text"] is None else record["text"].strip(),  # which may begin with a space
            width=record["width"],
            height=record["height"],
            num_bytes=record["bytes"],
            settings={name: _shown(record[name]) for name in SETTINGS if record.get(name) is not None},
            extra=_extra({name: value for name, value in record.items() if name not in _OWN}),
        )

    @classmethod
    def from_failure(cls, record: Mapping[str, Any]) -> "ReportRow":
        """A failed row, with its extra columns where recorded; ``task`` and ``prompt`` are the manifest's."""
        own = json.loads(record.get("columns") or "{}")
        return cls(
            row=record["row"],
            id=record["id"],
            is_done=False,
            stage=record["stage"],
            error_type=record["error_type"],
            message=record["message"],
            extra=_extra({name: record[name] for name in _OF_FAILURE if name in record} | own),
        )

    @property
    def score(self) -> float | None:
        """The first number among the columns whose name is or ends with ``score``."""
        for name, value in self.extra.items():
            if name.endswith("score") and isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
        return None

    def to_json(self) -> dict[str, Any]:
        """For the page's script, without what is empty."""
        values = {_PAGE_NAMES.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}
        values |= {"ok": int(self.is_done), "score": self.score}
        kept = {name: value for name, value in values.items() if value not in (None, "", {}, [])}
        return kept | {"row": self.row, "id": self.id}


def _extra(cells: Mapping[str, Any]) -> dict[str, Any]:
    return {name: shown for name, value in cells.items() if (shown := _shown(value)) is not None}


def _shown(value: object) -> object:
    """A value of a column that passed through, fit for JSON and for reading; None if there is nothing to show."""
    if value is None or value == "":
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bool | int):
        return value if abs(value) <= _MAX_EXACT else str(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = str(value)
    return text if len(text) <= _MAX_EXTRA_CHARS else text[:_MAX_EXTRA_CHARS] + "…"
