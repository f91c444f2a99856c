"""The command starts with its own packages or says in a line which other one is in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import REPOSITORY

COMMAND = Path(sys.executable).with_name("dimoo-batch")


def version_with(python_path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(python_path)}
    return subprocess.run(
        [COMMAND, "--version"], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("name", ["pipeline.py", "jobs.py", "manifests/__init__.py", "dimoo_core/notes.txt"])
def test_a_package_of_the_same_name_on_the_path_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x = 1\n")
    ended = version_with(tmp_path, tmp_path)
    package = name.partition("/")[0].removesuffix(".py")
    origin = tmp_path / package if name.endswith(".txt") else tmp_path / name
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"dimoo-batch: the package {package!r} comes from {origin}, not from {REPOSITORY}: take it off PYTHONPATH, or "
        "install dimoo-batch in an environment of its own\n"
    )


def test_a_path_with_other_things_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "my_jobs.py").write_text("x = 1\n")
    ended = version_with(tmp_path, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
