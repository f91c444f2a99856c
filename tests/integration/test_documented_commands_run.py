"""Every command of the documentation is run: on the embedded model, in a folder and in buckets like those it speaks of.

What is changed for that is in ``QUICKER``; what cannot run here is in ``ELSEWHERE``, with the reason.
"""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests.support.command import REPOSITORY
from tests.support.documented_world import BUCKETS, fill_buckets, make_world
from tests.support.in_process import load_models_once
from tests.support.s3_server import S3Server

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
# Commands as tests/unit/jobs/commands/test_documented_commands.py finds them, and blocks of Python.
LINE = re.compile(r"^ {4,}(dimoo-batch (?:.*\\\n)*.*)", re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

GROUPS = ("draw", "edit", "paint", "maps", "read", "codes")
CONTINUED = ("index.md", "run.md", "cookbook.md", *(f"tasks-{group}.md" for group in GROUPS))
"""Pages whose commands build on each other; elsewhere each finds the world as it was made."""

QUICKER = {
    "Alpha-VLLM/Lumina-DiMOO": "builtin",  # 16 GB, a GPU
    "1024x1024": "64x64",  # a GPU
    "512x512": "32x32",
    "--workers 8": "--workers 0",  # Ray has tests of its own
}
STEPS = ["--set", "text_to_image.steps=2", "--set", "image_to_image.steps=2", "--set", "understanding.max_tokens=16"]
FEWER = [*STEPS, "--limit", "4"]
"""Added to every ``run``."""
SHORTER = [*STEPS, "--rows", "1", "--max-seconds", "0.1"]
"""Added to every ``bench``."""
ADDED = {"run": FEWER, "bench": SHORTER}

ELSEWHERE = {
    "gpu-1:6379": "a cluster of several machines, see tests/integration/test_cluster_examples.py",
    "--ray-address 10.0.0.1:6379": "a cluster of several machines, see tests/integration/test_doctor.py",
    "examples/all-tasks.parquet": "58 rows, run by tests/integration/test_all_tasks_example.py",
}


def lines_of(page: Path) -> list[str]:
    found = LINE.findall(page.read_text(encoding="utf-8"))
    return [line.replace("\\\n", " ").partition("  #")[0].strip() for line in found]


def pieces_of(page: Path) -> list[tuple[str, bool]]:
    """Commands and blocks of Python of a page in their order, and whether each is a command."""
    text = page.read_text(encoding="utf-8")
    found = [(match.start(), match[1], False) for match in PYTHON.finditer(text)]
    starts = [match.start() for match in LINE.finditer(text)]
    found += [(start, line, True) for start, line in zip(starts, lines_of(page), strict=True)]
    return [(piece, is_command) for _, piece, is_command in sorted(found)]


def is_elsewhere(line: str) -> bool:
    return any(words in line for words in ELSEWHERE)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documented") / "world"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        load_models_once(patch)
        patch.chdir(folder)
        make_world(folder)
    return folder


@pytest.fixture
def here(world: Path, s3_env: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    existing = {bucket["Name"] for bucket in s3_env.client.list_buckets()["Buckets"]}
    for bucket in BUCKETS:
        if bucket not in existing:
            s3_env.make_bucket(bucket)
    load_models_once(monkeypatch)
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    folder = tmp_path / "world"
    renew(folder, world, s3_env, monkeypatch)
    yield folder
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def renew(folder: Path, world: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The world as it was made."""
    monkeypatch.chdir(world)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world, folder)
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    fill_buckets(server.client, world)
    monkeypatch.chdir(folder)


def remove_target(line: str, server: S3Server) -> None:
    """Delete what the command makes: whoever runs it for the first time does not have it."""
    words = shlex.split(line)[1:]
    option = {"run": "--output", "manifest": "--to"}.get(words[0])
    if words[0] == "export":
        target = words[2]
    elif option is None or words[1] in ("validate", "show"):
        return
    else:
        default = f"{Path(words[1]).stem}-output" if words[0] == "run" else "manifest.parquet"
        target = words[words.index(option) + 1] if option in words else default
    if target.startswith("s3://"):
        server_remove(server, target)
    elif Path(target).is_dir():
        shutil.rmtree(target)
    else:
        Path(target).unlink(missing_ok=True)


def server_remove(server: S3Server, uri: str) -> None:
    bucket, _, folder = uri.removeprefix("s3://").partition("/")
    prefix = f"{folder.rstrip('/')}/"
    for page in server.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            server.client.delete_object(Bucket=bucket, Key=found["Key"])


def run(line: str) -> Any:
    for words, instead in QUICKER.items():
        line = line.replace(words, instead)
    words = shlex.split(line)[1:]
    ended = CliRunner().invoke(app, [*words, *ADDED.get(words[0], [])])
    assert ended.exit_code == 0, f"{line}\n{ended.output}\n{ended.exception!r}"
    return ended


@pytest.mark.parametrize("page", [page for page in PAGES if lines_of(page)], ids=lambda page: page.stem)
def test_each_command_of_a_page_does_what_it_is_there_for(
    page: Path, here: Path, world: Path, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_continued = page.name in CONTINUED
    for number, (piece, is_command) in enumerate(pieces_of(page)):
        if is_command and not is_elsewhere(piece):
            if number and not is_continued:
                renew(here, world, s3_env, monkeypatch)
            remove_target(piece, s3_env)
            run(piece)
        elif is_continued and not is_command and not re.match(r"# \w+\.py\n", piece):
            exec(compile(piece, page.name, "exec"), {})
    check = CHECKS.get(page.name)
    assert check is None or check()


def recipes_gave_what_they_say() -> bool:
    """The ends of the cookbook's last two recipes, whose own blocks print it."""
    [pairs, codes] = (ds.dataset(name).to_table() for name in ("edit-pairs/data", "codes/parts"))
    assert pairs["prompt"].to_pylist() == [prompt for prompt in EDITS for _ in range(2)]
    assert codes["prompt"].to_pylist() == [f"what shape-{number} shows" for number in range(3)]
    return all(len(row) == rows * columns for row, (rows, columns) in zip(*columns_of(codes), strict=True))


def columns_of(codes: Any) -> tuple[list[Any], list[Any]]:
    return codes["vq_codes"].to_pylist(), codes["vq_grid"].to_pylist()


EDITS = ("Use a sky background.", "Add a green heart at b3.")
CHECKS = {"cookbook.md": recipes_gave_what_they_say}


def test_what_is_left_out_is_counted() -> None:
    lines = [line for page in PAGES for line in lines_of(page)]
    left_out = [line for line in lines if is_elsewhere(line)]
    assert all(any(words in line for line in left_out) for words in ELSEWHERE)
    assert len(left_out) == 5
    assert len(lines) > 50
