"""A run with failed rows of several classes, some of which a retry mends."""

import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.storage.reader import open_store
from pipeline.verify.audit import RunAudit
from tests.support.in_process import run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.stub_model import use_stub_model

MISSING = ("late0", "late1", "late2")

"""Rows whose images appear after the run, each in a segment of its own."""


NEVER = "never"

"""A row whose image never appears, beside the first of those."""


def rows() -> list[dict[str, Any]]:
    """Segments of two; a row that may be mended is beside one that may not, cannot be read, is done, or is none."""
    return [
        image_row("image0"),
        image_row("image1"),
        text_row("late0", "photos/late0.png"),
        text_row(NEVER, "photos/never.png"),
        text_row("late1", "photos/late1.png"),
        text_row("broken", b"no image"),
        image_row("image2"),
        text_row("late2", "photos/late2.png"),
        image_row("too wide", width=33),
        image_row("image3"),
    ]


IDS = [row["id"] for row in rows()]


def add_photos(folder: Path) -> None:
    (folder / "photos").mkdir(exist_ok=True)
    for number, name in enumerate(MISSING):
        (folder / "photos" / f"{name}.png").write_bytes(encoded(picture(number, (32, 32))))


def retry(output: object, *arguments: object, manifest: Path | None = None) -> Any:
    """The command; it is told where the manifest is if that lies beside the output, as it does not say itself."""
    beside = manifest or Path(str(output)).parent / "m.parquet"
    words = ["--manifest", str(beside)] if beside.exists() else []
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        return CliRunner().invoke(app, ["retry", str(output), "--workers", "0", *words, *map(str, arguments)])
    finally:
        signal.signal(signal.SIGTERM, on_terminate)


def check_good(output: object, num_rows: int = 10) -> None:
    findings: list[object] = []
    totals = RunAudit(open_store(str(output)), findings.append, findings.append).run()
    assert (findings, totals.num_rows, totals.is_complete) == ([], num_rows, True)


def make_failed_run(folder: Path) -> Path:
    """Put a manifest, its run in ``out`` and the photos that came too late into a folder, which is returned."""
    with pytest.MonkeyPatch.context() as patch:
        use_stub_model(patch)
        write_manifest(folder / "m.parquet", rows())
        run_here(folder / "m.parquet", folder / "out", Path("stub"), pipeline={"segment_rows": 2})
    assert sorted(RunOutput(folder / "out").failed_by_id()) == sorted([*MISSING, NEVER, "broken", "too wide"])
    return folder


def retry_twice(folder: Path) -> None:
    """Two retries of the run in a folder: one image comes back only for the second."""
    add_photos(folder)
    late = folder / "photos" / "late0.png"
    kept = late.read_bytes()
    late.unlink()
    with pytest.MonkeyPatch.context() as patch:
        use_stub_model(patch)
        retry(folder / "out", "--class", "not_found")
        late.write_bytes(kept)
        assert retry(folder / "out", "--class", "not_found").exit_code == 3
