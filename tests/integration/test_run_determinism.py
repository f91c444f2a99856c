"""A run that was interrupted many times ends with what one that was never interrupted ends with, byte for byte."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import RunFailed
from pipeline.storage.errors import StoreError
from pipeline.storage.reader import open_store
from pipeline.verify.audit import RunAudit
from tests.support.breaking_disk import BreakingDisk
from tests.support.in_process import run_here
from tests.support.manifest_rows import image_row, mixed_rows, text_row, write_manifest, write_photos

pytestmark = pytest.mark.usefixtures("loaded_once")

MIN_INTERRUPTIONS = 10
_MAX_STARTS = 100
_OURS = ("images/", "parts/", "_failures/", "_SUCCESS")


def run_interrupted(manifest: Path, output: Path, model: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Start a run again and again until it ends, each start broken off at another write; returns which they were."""
    disk = BreakingDisk(_OURS)
    disk.install(patch)
    for start in range(_MAX_STARTS):
        disk.writes_left, disk.is_done_first = 1 + start % 3, start % 2 == 1
        try:
            run_here(manifest, output, model, pipeline={"segment_rows": 2, "max_rows_in_flight": 2})
        except (RunFailed, StoreError):
            continue
        return disk.broken_at
    raise AssertionError(f"not finished after {_MAX_STARTS} starts")


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table_of(folder: Path) -> pa.Table:
    """All rows below a folder, by number; the metadata tell who wrote them and are left out."""
    tables = [pq.read_table(path).replace_schema_metadata() for path in sorted(folder.iterdir())]
    return pa.concat_tables(tables).sort_by("row")


def test_interruptions_change_neither_images_nor_tables(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path)
    rows = [*mixed_rows(), text_row("no image", b"none"), *(image_row(f"more{n}", temperature=1.0) for n in range(13))]
    manifest = write_manifest(tmp_path / "manifest.parquet", rows)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_here(manifest, whole, tiny_checkpoint, pipeline={"segment_rows": 2})
    with monkeypatch.context() as patch:
        interruptions = run_interrupted(manifest, broken, tiny_checkpoint, patch)
    assert len(interruptions) >= MIN_INTERRUPTIONS
    assert {key.partition("/")[0] for key in interruptions} >= {"images", "parts"}
    assert files_below(broken / "images") == files_below(whole / "images")
    assert table_of(broken / "parts").equals(table_of(whole / "parts"))
    assert table_of(broken / "_failures").equals(table_of(whole / "_failures"))
    assert (broken / "_SUCCESS").read_bytes() == (whole / "_SUCCESS").read_bytes()
    for output in (whole, broken):
        findings: list[object] = []
        totals = RunAudit(open_store(str(output)), findings.append, findings.append).run()
        assert (findings, totals.num_rows, totals.num_failed) == ([], len(rows), 1)
