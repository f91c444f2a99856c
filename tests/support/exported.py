"""Exports made by the command line in this process, and opened by Hugging Face ``datasets``."""

import json
from pathlib import Path
from typing import Any

from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from tests.support.run_output import RunOutput


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
