"""Ray's own processes are killed with -9 in the middle of a run: whatever that ends, the same command ends the run."""

from pathlib import Path

import psutil
import pytest

from tests.support.command import RunningCommand, kill, running_command, still_alive
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import FAST_SETTINGS, image_row, write_manifest
from tests.support.run_output import RunOutput

IDS = [f"row{number}" for number in range(40)]
AFTER_DRIVER_S = 30.0  # the time that workers have to end after their driver


def processes_named(running: RunningCommand, name: str) -> list[psutil.Process]:
    return [process for process in running.descendants() if process.name() == name]


@pytest.mark.soak
@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_without_a_process_of_ray_the_run_ends_or_says_why_not_and_nothing_is_lost(
    victim: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [image_row(row_id, width=64, height=64, steps=50, cfg_scale=2.0) for row_id in IDS]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    output = RunOutput(tmp_path / "out")
    pipeline = {"segment_rows": 1, "max_rows_in_flight": 2}
    spec = FAST_SETTINGS | {"model": str(tiny_checkpoint), "workers": 2, "pipeline": pipeline}
    with running_command(manifest, tmp_path / "out", spec) as running:
        running.wait_until(lambda: len(output.keys("parts/")) >= 2, "second part")
        workers = running.workers()
        assert len(workers) == 2
        (process,) = processes_named(running, victim)
        kill(process)
        ended = running.wait()
        assert still_alive(workers, AFTER_DRIVER_S) == []
    assert ended.returncode in (0, 1), ended.stderr
    if ended.returncode == 0:  # Ray may end the driver a moment after the run has
        assert output.success() is not None
    earlier = {key: output.store.get(key) for key in output.keys("parts/")}

    load_models_once(monkeypatch)
    resumed = run_here(manifest, tmp_path / "out", tiny_checkpoint, pipeline={"segment_rows": 1})
    assert resumed.resumed == len(earlier)
    assert {key: output.store.get(key) for key in earlier} == earlier
    output.check_complete(IDS)
