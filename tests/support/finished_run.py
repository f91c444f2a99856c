"""A run of images, texts and failures that has ended well, and ``verify`` over it."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests.support.in_process import run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.stub_model import use_stub_model

IMAGES = [f"images/0000000/{row:010d}-image{row}.png" for row in range(12)]


def rows() -> list[dict[str, Any]]:
    """Twelve images, two rows of which one fails, two of which both do."""
    fails = {"bytes": b"no image", "path": None}
    return [
        *(image_row(f"image{row}") for row in range(12)),
        text_row("text", encoded(picture(0, (32, 32)))),
        text_row("fails", b"no image"),
        text_row("fails too", b"no image") | {"image": fails},
        text_row("fails as well", b"no image"),
    ]


def run(manifest: object, output: object, **spec: Any) -> Any:
    return run_here(manifest, output, Path("stub"), **{"pipeline": {"segment_rows": 2}} | spec)


def verify(output: object, *flags: str) -> Any:
    return CliRunner().invoke(app, ["verify", str(output), *flags])


def check_good(output: object, num_rows: int = 16) -> None:
    result = verify(output)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1), result.stdout + result.stderr
    assert f"complete: {num_rows} rows" in result.stdout
    assert "nothing refers to" not in result.stdout


def make_finished_run(folder: Path) -> Path:
    """Put a manifest, its run in ``out`` and one with another seed in ``other`` into a folder; returns the former."""
    with pytest.MonkeyPatch.context() as patch:
        use_stub_model(patch)
        run(write_manifest(folder / "m.parquet", rows()), folder / "out")
        run(folder / "m.parquet", folder / "other", seed=1)
    return folder / "out"
