"""The distribution as users get it: built, installed, run by its console script."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support.command import REPOSITORY

_NOT_COPIED = (".*", "__pycache__", "*.egg-info", "build", "dist", "goldens", "results")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the repository, so that nothing is left there."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(REPOSITORY, folder / "source", ignore=shutil.ignore_patterns(*_NOT_COPIED))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    pip(sys.executable, "wheel", *options, "--wheel-dir", str(folder), str(folder / "source"))
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of the wheel in a separate environment, which borrows only the dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    site_packages = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    dependencies = sysconfig.get_path("purelib")
    # The folder alone: .pth files inside it, such as that of an editable install of this project, have no effect.
    (site_packages / "dependencies.pth").write_text(dependencies + "\n")
    python = str(folder / "bin" / "python")
    pip(python, "install", "--no-deps", "--no-index", "--disable-pip-version-check", "--quiet", str(wheel))
    return folder / "bin" / "dimoo-batch"


def pip(python: str, *arguments: str) -> None:
    """Run this environment's pip on another one."""
    command = [sys.executable, "-m", "pip", "--python", python, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
