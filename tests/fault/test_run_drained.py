"""SIGTERM, as before a machine is taken away: what is finished stays, what is recomputed is what was in the engine."""

import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.command import RunningCommand, kill, run_command, running_command, still_alive
from tests.support.manifest_rows import FAST_SETTINGS, image_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.witness import Witness

IDS = [f"row{number}" for number in range(12)]
HELD = ("row5",)
DEADLINE_S = 40.0


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "m.parquet", [image_row(row_id) for row_id in IDS])


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path / "witness")


def spec_of(model: Path, workers: int) -> dict[str, Any]:
    own = {"model": str(model), "workers": workers, "pipeline": {"segment_rows": 1}}
    return FAST_SETTINGS | own | {"worker_life": {"stop_deadline_s": DEADLINE_S}}


def kill_at_deadline(running: RunningCommand) -> int:
    """What takes the machine away: the status of the command, which is that of a kill if it was still there."""
    try:
        running.process.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        running.process.kill()
    return running.process.wait()


@pytest.mark.soak
@pytest.mark.parametrize("workers", [0, 2])
def test_a_driver_that_gets_a_shutdown_request_drains_and_only_rows_in_the_engine_are_computed_again(
    workers: int, manifest: Path, witness: Witness, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output, spec = RunOutput(tmp_path / "out"), spec_of(tiny_checkpoint, workers)
    with running_command(manifest, tmp_path / "out", spec, witness.environment(HELD)) as running:
        running.wait_until(lambda: witness.starts()[HELD[0]] > 0 and len(output.keys("parts/")) >= 3, "held row")
        everything = running.descendants()
        running.signal(signal.SIGTERM)
        assert kill_at_deadline(running) == 128 + signal.SIGTERM
        stderr = running.wait().stderr
        assert still_alive(everything, DEADLINE_S) == []
    *_, stopped, hint = stderr.splitlines()
    assert (
        f"dimoo-batch: shutting down gracefully, within {DEADLINE_S:g} s; send the signal again to stop at once"
        in stderr
    )
    assert stopped == "dimoo-batch: stopped"
    assert f" of {len(IDS)} rows committed to {tmp_path / 'out'}. Re-run the same command to resume." in hint
    in_engine, first_starts, num_kept = witness.unfinished(), witness.starts(), len(output.keys("parts/"))
    assert set(HELD) <= in_engine
    assert num_kept == len(set(first_starts) - in_engine)

    ended = run_command(manifest, tmp_path / "out", spec_of(tiny_checkpoint, 0), witness.environment())
    assert ended.returncode == 0, ended.stderr
    assert ended.summary["resumed"] == num_kept
    assert witness.starts() - first_starts == Counter(set(IDS) - (set(first_starts) - in_engine))
    output.check_complete(IDS)


@pytest.mark.soak
def test_a_worker_that_gets_a_shutdown_request_hands_back_its_rows_and_is_replaced_by_nobodys_fault(
    manifest: Path, witness: Witness, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output, spec = RunOutput(tmp_path / "out"), spec_of(tiny_checkpoint, 2)
    with running_command(manifest, tmp_path / "out", spec, witness.environment(HELD)) as running:
        running.wait_until(lambda: witness.process_of(HELD[0]) > 0, "held row")
        worker = psutil.Process(witness.process_of(HELD[0]))
        running.workers()  # so that all are ended with the test
        worker.terminate()
        if still_alive([worker], DEADLINE_S):
            kill(worker)
            pytest.fail("the worker was still there at its deadline")
        ended = running.wait()
    assert ended.returncode == 0, ended.stderr
    assert ended.summary["workers_lost"] == 0
    assert set(HELD) <= witness.unfinished()
    assert witness.starts() == Counter(IDS) + Counter(witness.unfinished())
    assert output.keys("_suspects/") == []
    output.check_complete(IDS)
