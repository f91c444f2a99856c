"""Ctrl-C: once to drain, twice to stop at once; the exit status is 130 whenever it comes."""

import signal
import time
from pathlib import Path

import pytest

from tests.support.command import running_command, still_alive
from tests.support.manifest_rows import FAST_SETTINGS, image_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.witness import Witness

IDS = [f"row{number}" for number in range(12)]
HELD = ("row5",)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "m.parquet", [image_row(row_id) for row_id in IDS])


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.soak)])
def test_the_first_ctrl_c_drains_and_what_is_finished_stays(
    workers: int, manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    witness, output = Witness(tmp_path / "witness"), RunOutput(tmp_path / "out")
    spec = FAST_SETTINGS | {"model": str(tiny_checkpoint), "workers": workers, "pipeline": {"segment_rows": 1}}
    spec |= {"worker_life": {"stop_deadline_s": 20.0}}
    with running_command(manifest, tmp_path / "out", spec, witness.environment(HELD)) as running:
        running.wait_until(lambda: witness.starts()[HELD[0]] > 0 and len(output.keys("parts/")) >= 3, "held row")
        everything = running.descendants()
        running.interrupt_from_keyboard()
        assert running.wait().returncode == 128 + signal.SIGINT
        stderr = running.wait().stderr
        assert still_alive(everything, 40.0) == []
    assert "shutting down gracefully, within 20 s; press Ctrl-C again to stop at once" in stderr
    num_kept = len(output.keys("parts/"))
    assert stderr.splitlines()[-2:] == [
        "dimoo-batch: stopped",
        f"{num_kept} of {len(IDS)} rows committed to {tmp_path / 'out'}. Re-run the same command to resume.",
    ]


@pytest.mark.parametrize(
    ("workers", "gap_s"),
    [(0, 0.0), (0, 1.0), *(pytest.param(2, gap_s, marks=pytest.mark.soak) for gap_s in (0.0, 0.3, 1.0, 3.0))],
)
def test_a_second_ctrl_c_stops_at_once(
    workers: int, gap_s: float, manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    witness, output = Witness(tmp_path / "witness"), RunOutput(tmp_path / "out")
    spec = FAST_SETTINGS | {"model": str(tiny_checkpoint), "workers": workers, "pipeline": {"segment_rows": 1}}
    with running_command(manifest, tmp_path / "out", spec, witness.environment(HELD)) as running:
        running.wait_until(lambda: witness.starts()[HELD[0]] > 0 and len(output.keys("parts/")) >= 3, "held row")
        everything = running.descendants()
        running.interrupt_from_keyboard()
        time.sleep(gap_s)
        running.interrupt_from_keyboard()
        ended = running.wait()
        assert ended.returncode == 128 + signal.SIGINT
        assert still_alive(everything, 40.0) == []
    assert ended.stderr.splitlines()[-1].endswith("Re-run the same command to resume.")


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_while_a_run_starts_is_not_lost(
    number: signal.Signals, workers: int, manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    spec = FAST_SETTINGS | {"model": str(tiny_checkpoint), "workers": workers}
    for delay_s in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0):
        with running_command(manifest, tmp_path / f"out {delay_s}", spec) as running:
            time.sleep(delay_s)
            running.signal(number)
            ended = running.wait()
        if ended.returncode == 0:  # it was done before
            assert RunOutput(tmp_path / f"out {delay_s}").success() is not None
            return
        assert ended.returncode in (128 + number, -number), ended.stderr  # the latter before Python has a handler
