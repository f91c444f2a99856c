import os
import pty
import subprocess
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from tests.support.command import TIMEOUT_S, Ended
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.names_in_the_way import put_names_in_the_way
from tests.support.run_output import RunOutput

pytestmark = pytest.mark.soak

IDS = ["picture", "answer"]
SPEC = """
text_to_image: {width: 32, height: 48, steps: 4}
understanding: {max_tokens: 8, block_length: 8, steps: 2, resolution: 32}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest of two rows with an image beside it, and a spec."""
    (tmp_path / "a.png").write_bytes(encoded(picture(0)))
    (tmp_path / "job.yaml").write_text(SPEC)
    put_names_in_the_way(tmp_path, are_packages=True)
    write_manifest(tmp_path / "m.parquet", [image_row("picture"), text_row("answer", "a.png")])
    return tmp_path


def run(script: Path, folder: Path, *arguments: object, stderr: int = subprocess.PIPE) -> Ended:
    """Run the script where nothing but the manifest is, without this test's own import path."""
    command = [str(script), "run", "m.parquet", "--spec", "job.yaml", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory(prefix="run.", ignore_cleanup_errors=True) as ray_folder:
        ended = subprocess.run(
            command,
            cwd=folder,
            env=environment | {"RAY_TMPDIR": ray_folder, "RAY_ADDRESS": "", "TERM": "xterm", "COLUMNS": "100"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    return Ended(ended.returncode, ended.stdout, ended.stderr or "")


def expected(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    load_models_once(monkeypatch)
    sections: dict[str, Any] = {"text_to_image": {"width": 32, "height": 48, "steps": 4, "cfg_scale": 4.0}}
    run_here(folder / "m.parquet", folder / "expected", model, **sections)
    return RunOutput(folder / "expected").results()


def test_the_wheel_has_exactly_the_five_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    packages = {"dimoo_batch", "dimoo_core", "manifests", "pipeline", "jobs"}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_has_the_embedded_model(wheel: Path) -> None:
    directory = find_checkpoint(BUILTIN).directory
    with zipfile.ZipFile(wheel) as archive:
        for path in directory.rglob("*"):
            if path.is_file():
                assert archive.read(f"dimoo_core/builtin/{path.relative_to(directory).as_posix()}") == path.read_bytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_installed_command_runs_a_manifest(
    workers: int, installed: Path, folder: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = run(installed, folder, "--model", tiny_checkpoint, "--workers", workers)
    assert ended.returncode == 0, ended.stderr
    summary = ended.summary
    assert (summary["status"], summary["done"], summary["failed"]) == ("done", 2, 0)
    assert summary["output"] == str(folder / "m-output")
    assert summary["tokens"] > 0
    output = RunOutput(folder / "m-output")
    output.check_complete(IDS)
    assert output.results() == expected(folder, tiny_checkpoint, monkeypatch)

    lines = ended.stderr.splitlines()
    assert lines[0] == "manifest m.parquet: 2 rows in 1 file"
    assert lines[1 : 1 + workers] == ["starting Ray with 1 worker"] * workers
    assert lines[1 + workers] == "0/2 rows, 1 worker loading the model"
    assert any(line.startswith("2/2 rows, 0 failed, ") for line in lines)
    assert lines[-4].startswith("2 rows done, 0 failed, in ")
    assert str(folder / "m-output" / "images") in lines[-3]
    assert str(folder / "m-output" / "parts") in lines[-2]
    assert lines[-1] == f"next: dimoo-batch report {folder / 'm-output'}"
    assert "\x1b" not in ended.stderr


def test_on_a_terminal_a_bar_shows_the_progress(installed: Path, folder: Path, tiny_checkpoint: Path) -> None:
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as pool:
        shown = pool.submit(read_to_end, ours)  # all the while: what nobody reads makes the command wait
        try:
            ended = run(installed, folder, "--model", tiny_checkpoint, "--workers", "0", stderr=theirs)
        finally:
            os.close(theirs)
        text = shown.result().decode()
    assert ended.returncode == 0, text
    assert ended.summary["done"] == 2
    assert "━" in text
    assert "0/2" in text
    assert "loading the model" in text
    assert "2 rows done, 0 failed" in text


def read_to_end(descriptor: int) -> bytes:
    chunks: list[bytes] = []
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # how Linux says that the other side is closed
            chunk = b""
        if not chunk:
            os.close(descriptor)
            return b"".join(chunks)
        chunks.append(chunk)
