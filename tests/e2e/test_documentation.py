"""The quickstart of the documentation, done as it stands; the site, built without a warning."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import REPOSITORY


def quickstart() -> list[str]:
    text = (
        (REPOSITORY / "docs" / "index.md")
        .read_text(encoding="utf-8")
        .partition("## Quickstart")[2]
        .partition("\n## ")[0]
    )
    return re.findall(r"^    dimoo-batch (.*)$", text, re.MULTILINE)


@pytest.mark.soak
def test_the_quickstart_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": ""}
    commands = quickstart()
    assert [line.split()[0] for line in commands] == ["doctor", "tasks", "run", "status", "verify", "report"]
    told = []
    for line in commands:
        command = [sys.executable, "-m", "dimoo_batch", *line.split()]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert ended.returncode == 0, f"{line}: {ended.stdout}{ended.stderr}"
        told.append(ended.stdout)
    assert "complete, every row has its outcome" in told[3]
    assert "complete: 4 rows, 4 done" in told[4]
    assert (tmp_path / "results" / "report" / "index.html").is_file()


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the extra 'docs' is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert (tmp_path / f"{page.stem}.html").is_file()
    fonts = [path for path in tmp_path.rglob("*.html") if "fonts.googleapis" in path.read_text(encoding="utf-8")]
    assert fonts == []
