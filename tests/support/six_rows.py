"""A manifest of six rows, two of them wrong, and its run in segments of two."""

from pathlib import Path
from typing import Any

from tests.support.in_process import run_here
from tests.support.manifest_rows import encoded, picture, text_row, write_manifest

IDS = [f"row{number}" for number in range(6)]


def write_six_rows(folder: Path) -> Path:
    """Four rows that succeed and two that do not, one of each in the first and the last of three segments of two."""
    rows = [text_row(row_id, encoded(picture(0))) for row_id in IDS]
    rows[1]["image"] = rows[4]["image"] = {"bytes": b"no image", "path": None}
    return write_manifest(folder / "manifest.parquet", rows)


def run_in_twos(manifest: Path, output: Path, model: Path, **spec: Any) -> Any:
    """Run it in this process."""
    return run_here(manifest, output, model, **{"pipeline": {"segment_rows": 2}} | spec)
