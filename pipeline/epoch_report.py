"""What the starts of a run told of themselves, read from the store by anybody: signs of life and the notes with them.

A driver notes its counts with each sign of life. They say what it believed then; what is committed is in the parts.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline.store import Store
from pipeline.store_errors import ObjectNotFound

_EPOCH_FILE = re.compile(r"_epochs/(?P<number>\d{6,})(?P<beat>-beat)?\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """One start of a run.

    Attributes:
        number: Counts the starts from 1.
        owner: Machine and process, for people.
        claimed_at: When it began; None if its claim cannot be read.
        heard_at: Its latest sign of life, by its own clock; None if it gave none.
        has_ended: It has said that it ends.
        note: What it told last, see ``jobs.run_note``; empty before the first row.
    """

    number: int
    owner: str
    claimed_at: datetime | None
    heard_at: datetime | None
    has_ended: bool
    note: Mapping[str, Any] = field(default_factory=dict)


def read_epoch_reports(store: Store) -> list[EpochReport]:
    """Every start of the run, in order; files that cannot be read as such are taken for empty.

    Raises:
        StoreError: The store is out of reach.
    """
    keys: dict[int, dict[str, str]] = {}
    for key in store.list("_epochs/"):
        if match := _EPOCH_FILE.fullmatch(key):
            keys.setdefault(int(match["number"]), {})["beat" if match["beat"] else "claim"] = key
    return [_report(store, number, files) for number, files in sorted(keys.items())]


def _report(store: Store, number: int, files: Mapping[str, str]) -> EpochReport:
    claim, beat = (_read(store, files.get(kind)) for kind in ("claim", "beat"))
    note = beat.get("note")
    host = str(claim.get("host", "an unknown machine")).partition("/")[0]
    return EpochReport(
        number=number,
        owner=f"process {claim.get('pid', '?')} on {host}",
        claimed_at=_time(claim.get("claimed_at")),
        heard_at=_time(beat.get("at")),
        has_ended=bool(beat.get("ended", False)),
        note=note if isinstance(note, dict) else {},
    )


def _read(store: Store, key: str | None) -> dict[str, Any]:
    if key is None:
        return {}
    try:
        found = json.loads(store.get(key))
    except (ObjectNotFound, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
