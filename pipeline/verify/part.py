"""Whether one part keeps the rules of the output. Reads it without the code that writes it.

What a part has to be is stated here independently, from docs/output.md: a checker that shared the writer's schema and
names would agree with the writer's mistakes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, BinaryIO
from urllib.parse import quote

import pyarrow as pa

from manifests.files.parquet import ParquetReader
from pipeline.storage.base import Store
from pipeline.verify.facts import RunFacts
from pipeline.verify.failures import audit_copy, audit_quarantine, parse_failures
from pipeline.verify.finding import CONTENT_ERRORS, Finding, damage_of, row_span
from pipeline.verify.image import ImageClaim
from pipeline.verify.listing import SegmentName

_COLUMNS = {
    "row": pa.int64(),
    "id": pa.string(),
    "task": pa.string(),
    "prompt": pa.string(),
    "output": pa.string(),
    "text": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "steps": pa.int32(),
    "cfg_scale": pa.float64(),
    "cfg_image_scale": pa.float64(),
    "temperature": pa.float64(),
    "seed": pa.int64(),
    "preset": pa.string(),
    "num_tokens": pa.int32(),
    "finish_reason": pa.string(),
    "sha256": pa.string(),
    "bytes": pa.int64(),
    "vq_codes": pa.list_(pa.uint16()),
    "vq_grid": pa.list_(pa.uint16()),
    "outputs": pa.list_(
        pa.field(
            "item",
            pa.struct(
                [
                    pa.field("output", pa.string(), nullable=False),
                    pa.field("prompt", pa.string(), nullable=False),
                    pa.field("seed", pa.int64(), nullable=False),
                    pa.field("width", pa.int32(), nullable=False),
                    pa.field("height", pa.int32(), nullable=False),
                    pa.field("sha256", pa.string(), nullable=False),
                    pa.field("bytes", pa.int64(), nullable=False),
                    pa.field("score", pa.float64()),
                ]
            ),
            nullable=False,
        )
    ),
    "model_score": pa.float64(),
    "answers": pa.list_(
        pa.field(
            "item",
            pa.struct(
                [pa.field("answer", pa.string(), nullable=False), pa.field("probability", pa.float64(), nullable=False)]
            ),
            nullable=False,
        )
    ),
}
_OWN_IMAGE = ("output", "width", "height", "sha256", "bytes")
_READ_COLUMNS = ("row", "id", "text", *_OWN_IMAGE, "outputs", "vq_codes", "vq_grid")
_ID_CHARACTERS_IN_NAME = 100
_BATCH_ROWS = 256


@dataclass(slots=True)
class PartAudit:
    """What one part holds, and its damage.

    ``rows`` is the first and the last row, None if the part cannot be read or is empty; ``images`` are those whose
    names are right. ``retry_number`` is the retry of the run that its metadata names.
    """

    segment: SegmentName
    rows: tuple[int, int] | None = None
    num_done: int = 0
    num_failed: int = 0
    done_rows: list[int] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    retry_number: int | None = None
    is_unread: bool = False
    images: list[ImageClaim] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def tell(self, what: str, expected: object, found: object) -> None:
        """Record that the part is not what it ought to be."""
        self.findings.append(Finding(self.segment.part_key, what, str(expected), str(found)))


def audit_part(
    store: Store,
    facts: RunFacts,
    segment: SegmentName,
    *,
    has_copy: bool,
    has_quarantine: bool = False,
    is_last: bool = True,
    has_ended: bool = True,
) -> PartAudit:
    """Read a part, every page of it, and the copy of its failures.

    Args:
        has_copy: Whether ``_failures/`` lists a file of this segment.
        has_quarantine: Whether ``_quarantine/`` does.
        is_last: Whether no retry's part follows, so that the failures stand.
        has_ended: Whether the run has; copies may be late before it does.
    """
    audit = PartAudit(segment)
    try:
        with store.open(segment.part_key) as file:
            failures = _read_part(file, audit, facts)
    except CONTENT_ERRORS as error:
        found = damage_of(error)
        audit = PartAudit(segment, findings=audit.findings, is_unread=True)
        audit.tell("content", "a readable part", found)
        return audit
    audit.failures = failures
    standing = failures if is_last else []
    if has_ended or (is_last and has_copy):
        audit.findings += audit_copy(store, segment, standing, has_copy=has_copy)
    if has_ended or (is_last and has_quarantine):
        audit.findings += audit_quarantine(store, segment, standing, has_it=has_quarantine)
    return audit


def image_keys(store: Store, segment: SegmentName) -> set[str] | None:
    """Every key that the rows of a part refer to; None if it cannot be read."""
    try:
        with store.open(segment.part_key) as file:
            cells = ParquetReader(file).table(["outputs"]).column("outputs").to_pylist()
            return {image["output"] for images in cells for image in images or ()}
    except (*CONTENT_ERRORS, KeyError) as error:
        damage_of(error)
        return None


def _read_part(file: BinaryIO, audit: PartAudit, facts: RunFacts) -> list[dict[str, Any]]:
    """Check a part's metadata; returns its failures."""
    parquet = ParquetReader(file)
    schema = parquet.schema
    wrong = {
        name: schema.field(name).type if name in schema.names else "nothing"
        for name, kind in _COLUMNS.items()
        if name not in schema.names or schema.field(name).type != kind
    }
    for name, found in wrong.items():
        audit.tell(f"column {name}", _COLUMNS[name], found)
    metadata = parquet.key_values
    failures = _audit_metadata(audit, metadata, facts)
    rows = [failure["row"] for failure in failures]
    audit.num_failed = len(rows)
    for batch in parquet.batches(_BATCH_ROWS):  # every column: that checks every page
        audit.num_done += batch.num_rows
        if not wrong:
            for record in batch.select(_READ_COLUMNS).to_pylist():
                if record["row"] is None or record["id"] is None:
                    audit.tell("row and id", "in every row", "null")
                else:
                    rows.append(record["row"])
                    audit.done_rows.append(record["row"])
                    _audit_row(audit, record, facts)
    if metadata.get(b"dimoo.num_done") != str(audit.num_done).encode():
        audit.tell("dimoo.num_done", audit.num_done, _shown(metadata.get(b"dimoo.num_done")))
    _audit_rows(audit, sorted(rows), facts)
    return failures


def _audit_metadata(audit: PartAudit, metadata: Mapping[bytes, bytes], facts: RunFacts) -> list[dict[str, Any]]:
    expected = {b"dimoo.format": "1", b"dimoo.run": facts.results_digest}
    for key, value in expected.items():
        if metadata.get(key) != value.encode():
            audit.tell(key.decode(), value, _shown(metadata.get(key)))
    failures = parse_failures(metadata.get(b"dimoo.failures"))
    if failures is None:
        audit.tell("dimoo.failures", "a list of failures", _shown(metadata.get(b"dimoo.failures")))
    number = metadata.get(b"dimoo.retry")
    if not audit.segment.retry and number is not None:
        audit.tell("dimoo.retry", "nothing, since it is no retry by its name", _shown(number))
    audit.retry_number = int(number) if number is not None and number.isdigit() else None
    return failures or []


def _audit_rows(audit: PartAudit, rows: list[int], facts: RunFacts) -> None:
    """The rows of a part, done and failed, are there once; without a gap unless a retry has chosen them."""
    if not rows:
        audit.tell("rows", "at least one", "none")
        return
    audit.rows = rows[0], rows[-1]
    for before, after in pairwise(rows):
        if after == before:
            audit.tell(f"row {after}", "once", "twice")
        elif after != before + 1 and not audit.segment.retry:
            audit.tell(row_span(before + 1, after - 1), "once", "done or failed nowhere in this part")
    if len(rows) > facts.segment_rows:
        audit.tell("rows", f"at most {facts.segment_rows}", len(rows))


def _audit_row(audit: PartAudit, record: Mapping[str, Any], facts: RunFacts) -> None:
    """One finished row has a text, an image with everything that identifies it, or codes that fill their grid."""
    row, of_image = record["row"], [record[name] for name in _OWN_IMAGE]
    outputs = record["outputs"] or []
    if record["vq_codes"] is not None or record["vq_grid"] is not None:
        _audit_codes(audit, record)
        return
    if record["text"] is not None:
        if outputs or any(value is not None for value in of_image):
            audit.tell(f"row {row}", "a text or an image", "both")
        return
    if any(value is None for value in of_image):
        audit.tell(f"row {row}", "a text, or an image with width, height, sha256 and bytes", of_image)
        return
    stem = f"images/{audit.segment.shard:07d}/{row:010d}-{quote(record['id'], safe='')[:_ID_CHARACTERS_IN_NAME]}"
    for number, image in enumerate(outputs):
        expected = f"{stem}{f'-{number}' if number else ''}{facts.image_suffix}"
        if image["output"] != expected:
            audit.tell(f"outputs of row {row}", expected, image["output"])
            return
    own = next((image for image in outputs if image["output"] == record["output"]), None)
    if own is None:
        names = " or ".join(image["output"] for image in outputs) or "none without outputs"
        audit.tell(f"output of row {row}", names, record["output"])
        return
    for name in _OWN_IMAGE:
        if record[name] != own[name]:
            audit.tell(f"{name} of row {row}", f"{own[name]}, as in outputs", record[name])
    audit.images += [
        ImageClaim(
            audit.segment.part_key,
            row,
            image["output"],
            image["sha256"],
            image["bytes"],
            image["width"],
            image["height"],
        )
        for image in outputs
    ]


def _audit_codes(audit: PartAudit, record: Mapping[str, Any]) -> None:
    """A row of codes has their grid, the size in pixels that it stands for, and nothing else."""
    row, codes, grid = record["row"], record["vq_codes"], record["vq_grid"]
    if record["outputs"] or any(record[name] is not None for name in ("output", "text", "sha256", "bytes")):
        audit.tell(f"row {row}", "codes, or a text, or an image", "more than one")
    elif codes is None or grid is None or len(grid) != 2 or len(codes) != grid[0] * grid[1]:
        num_codes = "none" if codes is None else len(codes)
        audit.tell(f"vq_codes of row {row}", f"as many as the grid {grid} has cells", num_codes)
    elif [record["height"], record["width"]] != [16 * side for side in grid]:
        found = f"{record['width']}x{record['height']}"
        audit.tell(f"width and height of row {row}", f"{16 * grid[1]}x{16 * grid[0]}", found)


def _shown(value: bytes | None) -> str:
    return "nothing" if value is None else value.decode(errors="backslashreplace")
