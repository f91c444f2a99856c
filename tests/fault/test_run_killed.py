"""Processes are killed and stopped in the middle of a run: nothing is lost, nothing is there twice."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import RunningCommand, kill, running_command, still_alive
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import FAST_SETTINGS, encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput

NUM_ROWS = 16
IDS = [f"row{number}" for number in range(NUM_ROWS)]
AFTER_DRIVER_S = 15.0  # the time that worker processes have to end after their driver was killed


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Rows of some seconds, one of them wrong."""
    rows = [image_row(row_id, width=64, height=64, steps=50, cfg_scale=2.0) for row_id in IDS]
    rows[3] = text_row(IDS[3], b"no image")
    rows[5] = text_row(IDS[5], encoded(picture(0)))
    return write_manifest(tmp_path / "m.parquet", rows)


def spec_of(model: Path, workers: int) -> dict[str, Any]:
    return FAST_SETTINGS | {
        "model": str(model),
        "workers": workers,
        "pipeline": {"segment_rows": 1, "max_rows_in_flight": 2},
    }


def wait_until_in_the_middle(running: RunningCommand, output: RunOutput) -> None:
    running.wait_until(lambda: len(output.keys("parts/")) >= 2, "second part")
    assert len(output.keys("parts/")) < NUM_ROWS


def parts_of(output: RunOutput) -> dict[str, bytes]:
    return {key: output.store.get(key) for key in output.keys("parts/")}


def check_untouched(output: RunOutput, earlier: dict[str, bytes]) -> None:
    assert {key: output.store.get(key) for key in earlier} == earlier


@pytest.mark.long
def test_a_killed_worker_is_replaced_and_its_rows_are_done_by_others(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output = RunOutput(tmp_path / "out")
    with running_command(manifest, tmp_path / "out", spec_of(tiny_checkpoint, 2)) as running:
        wait_until_in_the_middle(running, output)
        workers = running.workers()
        assert len(workers) == 2
        kill(workers[0])
        ended = running.wait()
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    assert (ended.summary["done"], ended.summary["failed"]) == (NUM_ROWS - 1, 1)
    assert ended.summary["workers_lost"] == 1
    output.check_complete(IDS)
    assert list(output.failed_by_id()) == ["row3"]


@pytest.mark.long
def test_workers_end_with_a_killed_driver_and_the_same_command_resumes(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = RunOutput(tmp_path / "out")
    with running_command(manifest, tmp_path / "out", spec_of(tiny_checkpoint, 2)) as running:
        wait_until_in_the_middle(running, output)
        workers = running.workers()
        assert len(workers) == 2
        running.signal(signal.SIGKILL)
        assert running.wait().returncode == -signal.SIGKILL
        assert still_alive(workers, AFTER_DRIVER_S) == []
    earlier = parts_of(output)
    assert 2 <= len(earlier) < NUM_ROWS
    assert output.success() is None

    load_models_once(monkeypatch)
    resumed = run_here(manifest, tmp_path / "out", tiny_checkpoint, pipeline={"segment_rows": 1})
    assert (resumed.resumed, resumed.failed) == (len(earlier), 1)
    check_untouched(output, earlier)
    output.check_complete(IDS)


@pytest.mark.parametrize(
    ("workers", "stop", "returncode"),
    [
        pytest.param(0, lambda running: running.signal(signal.SIGKILL), -signal.SIGKILL, marks=pytest.mark.soak),
        pytest.param(0, lambda running: running.signal(signal.SIGTERM), 143, marks=pytest.mark.soak),
        (0, RunningCommand.interrupt_from_keyboard, 130),
        pytest.param(2, lambda running: running.signal(signal.SIGTERM), 143, marks=pytest.mark.soak),
        pytest.param(2, RunningCommand.interrupt_from_keyboard, 130, marks=pytest.mark.soak),
    ],
    ids=["kill", "terminate", "interrupt", "terminate with workers", "interrupt with workers"],
)
def test_a_stopped_run_prints_how_to_resume_and_resumes(
    workers: int,
    stop: Callable[[RunningCommand], None],
    returncode: int,
    manifest: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = RunOutput(tmp_path / "out")
    with running_command(manifest, tmp_path / "out", spec_of(tiny_checkpoint, workers)) as running:
        wait_until_in_the_middle(running, output)
        everything = running.descendants()
        stop(running)
        ended = running.wait()
        assert still_alive(everything, AFTER_DRIVER_S) == []
    assert ended.returncode == returncode
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    if returncode > 0:
        *_, stopped, hint = ended.stderr.splitlines()
        assert stopped == "dimoo-batch: stopped"
        assert f" of {NUM_ROWS} rows committed to {tmp_path / 'out'}. Re-run the same command to resume." in hint
    earlier = parts_of(output)
    assert 2 <= len(earlier) < NUM_ROWS
    assert output.success() is None
    check_every_image_is_whole(output)

    load_models_once(monkeypatch)
    summary = run_here(manifest, tmp_path / "out", tiny_checkpoint, pipeline={"segment_rows": 1})
    assert summary.resumed == len(earlier)
    check_untouched(output, earlier)
    output.check_complete(IDS)


def check_every_image_is_whole(output: RunOutput) -> None:
    """Also of rows that are not committed: files appear whole or not at all."""
    for key in output.keys("images/"):
        assert output.store.get(key).endswith(b"IEND\xaeB`\x82"), key
