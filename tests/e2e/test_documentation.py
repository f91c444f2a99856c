"""The quickstart of the documentation, done as it stands; the site, built without a warning, and its search."""

import json
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
    assert "complete, every row has a result" in told[3]
    assert "complete: 4 rows, 4 done" in told[4]
    assert (tmp_path / "results" / "report" / "index.html").is_file()


EXPLAINED = {
    "resume": "run.html",
    "retry": "output.html#try-failed-rows-again",
    "heartbeat": "durability.html#workers-that-hang-grow-or-age",
    "in flight": "tuning.html#batch-size-and-concurrency",
    "throughput": "scale.html#throughput",
    "batch size": "tuning.html#batch-size-and-concurrency",
    "concurrency": "tuning.html#batch-size-and-concurrency",
    "continuous batching": "tuning.html#batch-size-and-concurrency",
    "batch invariance": "numerics.html#batch-invariance",
    "preemption": "durability.html#preemption-and-graceful-shutdown",
    "graceful shutdown": "durability.html#preemption-and-graceful-shutdown",
    "speculative execution": "scale.html#speculative-execution-the-end-of-a-run",
    "backoff": "scale.html#backoff-a-store-under-stress",
    "quarantine": "durability.html#poison-rows",
    "KV cache policies": "numerics.html#approximations",
    "parallel commit": "numerics.html#approximations",
}
"""Terms that people search for, and the section that explains each."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="the extra 'docs' is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return folder


def test_the_site_is_built_without_a_warning(site: Path) -> None:
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").is_file()
    fonts = [path for path in site.rglob("*.html") if "fonts.googleapis" in path.read_text(encoding="utf-8")]
    assert fonts == []


@pytest.mark.parametrize("term", EXPLAINED)
def test_the_search_finds_a_term_where_it_is_explained(site: Path, term: str) -> None:
    entries = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    found = [entry["location"] for entry in entries if term.lower() in f"{entry['title']} {entry['text']}".lower()]
    assert EXPLAINED[term] in found
