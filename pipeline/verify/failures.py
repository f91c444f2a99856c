"""Whether the failures of a segment are the same in its part and in ``_failures/``."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from manifests.files.parquet import ParquetReader
from pipeline.storage.base import Store
from pipeline.verify.finding import CONTENT_ERRORS, Finding, damage_of
from pipeline.verify.listing import SegmentName

_FIELDS = {
    "row": int,
    "id": str,
    "stage": str,
    "error_type": str,
    "message": str,
    "failure_class": str,
    "attempts": int,
}
_BATCH_ROWS = 1024
FAILURE_CLASSES = {
    "bad_input",
    "not_found",
    "forbidden",
    "timeout",
    "oom",
    "engine",
    "store",
    "crash",
    "hook",
    "rejected",
}


def parse_failures(text: bytes | None) -> list[dict[str, Any]] | None:
    """The failures in a part's metadata; None if they are no list of failures."""
    try:
        found = json.loads(text) if text is not None else None
    except ValueError:
        return None
    return found if isinstance(found, list) and all(_is_failure(each) for each in found) else None


def audit_copy(
    store: Store, segment: SegmentName, failures: list[dict[str, Any]], *, has_copy: bool
) -> Iterator[Finding]:
    """``_failures/`` repeats the failures of a part, and is absent where there are none."""
    key = segment.failures_key
    if not failures and has_copy:
        yield Finding(key, "object", "nothing, since no failure stands there", "a file")
    if not failures:
        return
    expected = f"a copy of the {len(failures)} failures in {segment.part_key}"
    if not has_copy:
        yield Finding(key, "object", expected, "nothing")
        return
    try:
        with store.open(key) as file:
            copies = list(_records(file))
    except CONTENT_ERRORS as error:
        yield Finding(key, "content", expected, damage_of(error))
        return
    yield from _compare(key, failures, copies)


def audit_quarantine(
    store: Store, segment: SegmentName, failures: list[dict[str, Any]], *, has_it: bool
) -> Iterator[Finding]:
    """``_quarantine/`` repeats those failures of a part whose rows killed their workers, and is absent without any."""
    key, quarantined = segment.quarantine_key, [each for each in failures if each["error_type"] == "WorkerDied"]
    if not quarantined and not has_it:
        return
    expected = f"the {len(quarantined)} quarantined rows of {segment.part_key}" if quarantined else "nothing"
    if not has_it:
        yield Finding(key, "object", expected, "nothing")
        return
    found = parse_failures(store.get(key))
    if found != quarantined:
        shown = "no list of failures" if found is None else json.dumps(found)
        yield Finding(key, "content", expected, shown)


def _compare(key: str, failures: list[dict[str, Any]], copies: list[dict[str, Any]]) -> Iterator[Finding]:
    if len(failures) != len(copies):
        yield Finding(key, "rows", str(len(failures)), str(len(copies)))
        return
    for failure, copy in zip(failures, copies, strict=True):
        for name in {**_FIELDS, **copy}:
            if name not in copy or copy[name] != failure.get(name):
                found = repr(copy[name]) if name in copy else "no such column"
                yield Finding(key, f"{name} of row {failure['row']}", repr(failure.get(name)), found)


def _is_failure(found: object) -> bool:
    if not isinstance(found, dict) or any(type(found.get(name)) is not kind for name, kind in _FIELDS.items()):
        return False
    return found["failure_class"] in FAILURE_CLASSES and found["attempts"] >= 1


def _records(file: BinaryIO) -> Iterator[dict[str, Any]]:
    yield from ParquetReader(file).rows(_BATCH_ROWS)
