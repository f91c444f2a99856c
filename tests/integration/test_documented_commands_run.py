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

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests.support.command import REPOSITORY
from tests.support.documented_world import BUCKETS, fill_buckets, make_world
from tests.support.in_process import load_models_once
from tests.support.s3_server import S3Server

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
# Commands as tests/unit/jobs/test_documented_commands.py finds them, and blocks of Python.
LINE = re.compile(r"^ {4,}(dimoo-batch (?:.*\\\n)*.*)", re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

CONTINUED = {"cookbook.md"}
"""Pages whose commands build on each other; elsewhere each finds the world as it was."""

QUICKER = {
    "Alpha-VLLM/Lumina-DiMOO": "builtin",  # 16 GB, a GPU
    "--workers 8": "--workers 0",  # Ray has tests of its own
}
FEWER = ["--set", "text_to_image.steps=2", "--set", "image_to_image.steps=2", "--limit", "4"]
"""Added to every ``run``."""

ELSEWHERE = {
    "gpu-1:6379": "a cluster of several machines, see tests/integration/test_cluster_examples.py",
    "--ray-address 10.0.0.1:6379": "a cluster of several machines, see tests/integration/test_doctor.py",
    "examples/all-tasks.parquet": "52 rows, run by tests/integration/test_all_tasks_example.py",
}


def lines_of(page: Path) -> list[str]:
    found = LINE.findall(page.read_text(encoding="utf-8"))
    return [line.replace("\\\n", " ").partition("  #")[0].strip() for line in found]


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
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    for page in server.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            server.client.delete_object(Bucket=bucket, Key=found["Key"])


def run(line: str) -> Any:
    for words, instead in QUICKER.items():
        line = line.replace(words, instead)
    words = shlex.split(line)[1:]
    ended = CliRunner().invoke(app, [*words, *(FEWER if words[0] == "run" else [])])
    assert ended.exit_code == 0, f"{line}\n{ended.output}\n{ended.exception!r}"
    return ended


@pytest.mark.parametrize("page", [page for page in PAGES if lines_of(page) and page.name not in CONTINUED], ids=str)
def test_each_command_of_a_page_does_what_it_is_there_for(
    page: Path, here: Path, world: Path, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_first = True
    for line in lines_of(page):
        if is_elsewhere(line):
            continue
        if not is_first and page.name != "index.md":
            renew(here, world, s3_env, monkeypatch)
        is_first = False
        remove_target(line, s3_env)
        run(line)


def test_the_recipes_work_from_beginning_to_end(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (REPOSITORY / "docs" / "cookbook.md").read_text(encoding="utf-8")
    for name in ("edits.parquet",):
        (here / name).unlink()
    pieces = sorted(
        [(m.start(), m[1], True) for m in LINE.finditer(text)]
        + [(m.start(), m[1], False) for m in PYTHON.finditer(text)]
    )
    for _, piece, is_command in pieces:
        if is_command:
            run(piece.replace("\\\n", " ").strip())
        elif not re.match(r"# \w+\.py\n", piece):
            exec(compile(piece, "docs/cookbook.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "(64, 64) Use a sky background. (64, 64) background" in printed
    assert "what shape-2 shows (32, 32)" in printed


def test_what_is_left_out_is_counted() -> None:
    lines = [line for page in PAGES for line in lines_of(page)]
    left_out = [line for line in lines if is_elsewhere(line)]
    assert all(any(words in line for line in left_out) for words in ELSEWHERE)
    assert len(left_out) == 4
    assert len(lines) > 50
