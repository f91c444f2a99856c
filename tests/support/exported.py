"""A run to export, exports made by the command line in this process, and opened by Hugging Face ``datasets``."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import image_row, mixed_rows, write_manifest, write_photos
from tests.support.run_output import RunOutput


def make_run_to_export(folder: Path, checkpoint: Path) -> RunOutput:
    """Nine rows of three tasks, images embedded and named, and one that fails; run in ``out``."""
    write_photos(folder)
    manifest = write_manifest(folder / "m.parquet", [*mixed_rows(), image_row("wrong", width=30)])
    with pytest.MonkeyPatch.context() as patch:
        load_models_once(patch)
        run_here(manifest, folder / "out", checkpoint, pipeline={"segment_rows": 4})
    return RunOutput(folder / "out")


def expected_pixels(run: RunOutput, row: dict[str, Any]) -> bytes:
    """Of the row's result; of a text, of the image that it is about."""
    if row["output"] is not None:
        data = run.store.get(row["output"])
    else:
        manifest = pq.read_table(Path(run.store.uri).parent / "m.parquet").column("image").to_pylist()
        cell = manifest[row["row"]]
        data = cell["bytes"] or (Path(run.store.uri).parent / cell["path"]).read_bytes()
    return pixels(Image.open(io.BytesIO(data)))


def export(run: RunOutput, target: object, kind: str, *more: str, exit_code: int = 0) -> dict[str, Any]:
    """Export a run and return the report, or the message with which it ended."""
    arguments = ["export", run.store.uri, str(target), "--to", kind, *more, "--json"]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == exit_code, ended.output
    return json.loads(ended.stdout) if exit_code == 0 else {"message": ended.stderr}


def load_dataset(*arguments: Any, cache: Path, **options: Any) -> Any:
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(*arguments, cache_dir=str(cache), **options)


def pixels(image: Image.Image) -> bytes:
    return image.convert("RGB").tobytes()
