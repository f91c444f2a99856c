"""Every command where files and packages of a user have the names of ours, in the working directory and on the path."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.command import TIMEOUT_S
from tests.support.manifest_rows import FAST_SETTINGS, encoded, image_row, picture, text_row, write_manifest
from tests.support.names_in_the_way import put_names_in_the_way
from tests.support.run_output import RunOutput

HOOK = """
def style(cells):
    return {**cells, "prompt": f"{cells['prompt']}, oil painting"}

class Length:
    def __call__(self, row):
        return len(row.cells["prompt"])
"""
WITHOUT_AN_IMAGE = [
    ("manifest build rows.parquet --to m.parquet --hook ./jobs/hooks.py:style", 0),
    ("manifest validate m.parquet --images", 3),
    ("manifest show m.parquet", 0),
    ("plan m.parquet --spec spec.json", 0),
    ("run m.parquet --spec spec.json --workers 0 --output a", 3),
    ("run m.parquet --spec spec.json --workers 2 --output b", 3),
    ("status b", 0),
    ("verify b", 0),
]
WITH_IT = [
    ("retry b --class not_found --workers 0", 0),
    ("replay b answer", 0),
    ("report b", 0),
    ("export b exported --score ./jobs/hooks.py:Length", 0),
    ("bench --rows 1 --max-seconds 0.1 --preset exact --size 32x32 --spec spec.json", 0),
    ("doctor --output doctored", 0),
    ("models", 0),
    ("tasks", 0),
]


@pytest.mark.long
def test_every_command_works_among_names_that_are_ours(tmp_path: Path, tiny_checkpoint: Path) -> None:
    put_names_in_the_way(tmp_path, are_packages=True)
    (tmp_path / "path").mkdir()
    put_names_in_the_way(tmp_path / "path", are_packages=False)
    (tmp_path / "jobs" / "hooks.py").write_text(HOOK)
    hooks = {"rows": "./jobs/hooks.py:style", "scores": {"length": f"{tmp_path}/jobs/hooks.py:Length"}}
    spec = FAST_SETTINGS | {"model": str(tiny_checkpoint), "pipeline": {"segment_rows": 1}, "hooks": hooks}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    rows = [image_row("picture"), text_row("answer", encoded(picture(0))), text_row("late", "late.png")]
    write_manifest(tmp_path / "rows.parquet", rows)
    run(WITHOUT_AN_IMAGE, tmp_path)
    (tmp_path / "late.png").write_bytes(encoded(picture(1)))
    run(WITH_IT, tmp_path)
    assert RunOutput(tmp_path / "b").by_id()["late"]["score_length"] > 0


def run(commands: Sequence[tuple[str, int]], folder: Path) -> None:
    """Run them, where the folder comes first on the import path, and before it another one."""
    path = {"PYTHONPATH": f"{folder / 'path'}{os.pathsep}{folder}"}
    with tempfile.TemporaryDirectory(prefix="run.", ignore_cleanup_errors=True) as ray_folder:
        for words, status in commands:
            ended = subprocess.run(
                [sys.executable, "-m", "dimoo_batch", *words.split()],
                cwd=folder,
                env=os.environ | path | {"RAY_TMPDIR": ray_folder, "RAY_ADDRESS": ""},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            assert ended.returncode == status, f"{words}: {ended.stderr}{ended.stdout}"
            assert "somebody has imported this" not in ended.stderr + ended.stdout
