"""The moments around a commit, one by one; and two runs that commit at the same time."""

import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest

from jobs.run.summary import RunSummary
from pipeline.errors import RunInUse
from tests.support.command import REPOSITORY, TIMEOUT_S
from tests.support.crashing_run import CrashPoint
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput

IDS = [f"row{number}" for number in range(8)]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and answers; in each segment of two there is a row that fails."""
    rows = [image_row(row_id) for row_id in IDS]
    rows[2] = text_row(IDS[2], encoded(picture(0)))
    for number in (1, 3, 5, 7):
        rows[number] = image_row(IDS[number], width=33)
    return write_manifest(tmp_path_factory.mktemp("crashes") / "m.parquet", rows)


@pytest.fixture(scope="module")
def crashed_folder(manifest: Path, tiny_checkpoint: Path) -> Path:
    """Outputs of runs that crashed, in folders named by the point of the crash."""
    crashed = subprocess.run(
        [sys.executable, "-m", "tests.support.crashing_run", manifest, manifest.parent, tiny_checkpoint],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert json.loads(crashed.stdout) == dict.fromkeys(get_args(CrashPoint), -signal.SIGKILL)
    return manifest.parent


@pytest.mark.soak
@pytest.mark.parametrize("point", get_args(CrashPoint))
def test_a_crash_around_a_commit_loses_nothing_and_repeats_nothing(
    point: CrashPoint, crashed_folder: Path, manifest: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = RunOutput(crashed_folder / point)
    parts = {key: output.store.get(key) for key in output.keys("parts/")}
    assert len(parts) == (2 if point == "after the part" else 1)
    assert len(output.keys("_failures/")) == 1
    half_written = list((crashed_folder / point / "parts").glob(".tmp-*"))
    assert len(half_written) == (point == "while the part is written")

    load_models_once(monkeypatch)
    summary = run_here(manifest, crashed_folder / point, tiny_checkpoint, pipeline={"segment_rows": 2})
    assert (summary.done, summary.failed, summary.resumed) == (4, 4, 2 * len(parts))
    assert {key: output.store.get(key) for key in parts} == parts
    output.check_complete(IDS)


def test_of_the_same_run_twice_at_once_one_continues_and_the_other_says_so(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    begin = threading.Barrier(2)

    def run(_: int) -> RunSummary | RunInUse:
        begin.wait()
        try:
            return run_here(manifest, tmp_path / "out", tiny_checkpoint, pipeline={"segment_rows": 1})
        except RunInUse as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        first, second = sorted(pool.map(run, range(2)), key=lambda ended: isinstance(ended, RunInUse))
    assert isinstance(first, RunSummary)
    assert (first.done, first.failed) == (4, 4)
    assert "is in use by another driver" in str(second)
    output = RunOutput(tmp_path / "out")
    output.check_complete(IDS)
    assert len(output.keys("parts/")) == len(IDS)
