"""An output of many rows as a run would have left it, written in a second or two: its pictures are few and shared."""

import json
from pathlib import Path

import pyarrow as pa

from manifests.errors import RowFailure
from manifests.files.plan import Segment
from pipeline.output.directory import RunDirectory
from pipeline.output.parts import PartName
from pipeline.output.results import PartSummary, RowResult, RowSuccess, RunTotals, part_bytes
from pipeline.storage.reader import open_store
from tests.support.manifest_rows import encoded, picture

SEGMENT_ROWS = 1000
SIDES = (192, 256, 320)
"""Small enough that each image is its own thumbnail."""
_COLOURS = ("amber", "blue", "coral", "dark green", "ebony", "fuchsia", "golden")
_THINGS = ("lighthouse", "teapot", "heron", "violin", "harbour", "glacier", "lantern", "orchard", "staircase")


def write_large_output(folder: Path, num_rows: int) -> Path:
    """Of four rows three are images, one a caption; one in 50 failed; each has a ``score`` and ``own_cells``."""
    run = RunDirectory(open_store(str(folder)))
    run.start(
        {
            "manifest": "large.parquet",
            "model": "someone/model@0123456789abcdef",
            "rows": num_rows,
            "started_at": "2026-01-01T00:00:00+00:00",
            "results": {"seed": 0, "segment_rows": SEGMENT_ROWS, "image_format": "png", "manifest_fingerprint": "none"},
        }
    )
    for side in SIDES:
        run.store.put(f"images/shared-{side}.png", encoded(picture(side, (side, side))))
    totals = RunTotals()
    for first in range(0, num_rows, SEGMENT_ROWS):
        row_results = [_outcome(row) for row in range(first, min(num_rows, first + SEGMENT_ROWS))]
        cells = [{"score": row * 37 % 101 / 100, **own_cells(row)} for row in range(first, first + len(row_results))]
        failures = tuple(row_result for row_result in row_results if isinstance(row_result, RowFailure))
        part = part_bytes(row_results, pa.Table.from_pylist(cells), first, writer="", run="")
        segment = Segment(first // SEGMENT_ROWS, 0, "large.parquet", first, first, len(row_results))
        totals += run.commit(
            PartName(segment.name), part, PartSummary(len(row_results) - len(failures), failures)
        ).totals
    run.succeed(totals)
    return folder


def prompt_of(row: int) -> str:
    """What the row asks for; rows 63 apart ask for the same."""
    return f"a {_COLOURS[row % 7]} {_THINGS[row % 9]} in the evening light, number {row}"


def own_cells(row: int) -> dict[str, str]:
    """What the manifest has in columns of its own: one of few values, and one that no two rows share."""
    return {"shelf": ("oak", "ash", "elm & fir")[row % 3], "sku": f"sku/{row:05d}"}


def _outcome(row: int) -> RowResult:
    if row % 50 == 49:
        message = f"cannot read s3://photos/{row}.jpg: NoSuchKey"
        return RowFailure(row, f"row-{row}", "fetch", "ObjectNotFound", message, columns=json.dumps(own_cells(row)))
    is_image, side = row % 4 != 3, SIDES[row % 3]
    return RowSuccess(
        row=row,
        id=f"row-{row}",
        task="text_to_image" if is_image else "caption",
        prompt=prompt_of(row) if is_image else "Describe this image in detail.",
        output=f"images/shared-{side}.png" if is_image else None,
        text=None if is_image else " ".join([f"It shows {prompt_of(row)}."] * (1 + row % 6)),
        width=side if is_image else None,
        height=side if is_image else None,
        steps=64 if is_image else 256,
        cfg_scale=4.0,
        temperature=1.0,
        seed=row * 7919,
        preset="exact",
        num_tokens=side * side // 256 if is_image else 128,
        finish_reason=None if is_image else "stop",
        sha256=f"{row:064x}" if is_image else None,
        bytes=40_000 + row % 977 * 100 if is_image else None,
    )
