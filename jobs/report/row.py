"""One row as the report shows it, made from a part, from a failure and from the manifest."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
        """A failed row, with its own columns as far as they are noted; ``task`` and ``prompt`` are the manifest's."""
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
        fields: dict[str, Any] = {
            "row": self.row,
            "id": self.id,
            "task": self.task,
            "prompt": self.prompt,
            "ok": int(self.is_done),
            "image": self.image,
            "text": self.text,
            "w": self.width,
            "h": self.height,
            "bytes": self.num_bytes,
            "score": self.score,
            "set": self.settings,
            "extra": self.extra,
            "stage": self.stage,
            "error": self.error_type,
            "message": self.message,
            "thumb": self.thumb,
            "source": self.source,
            "strip": self.strip,
        }
        kept = {name: value for name, value in fields.items() if value not in (None, "", {}, [])}
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
