"""Rows that kill the process that runs them: each costs the run at most one death, and then only itself."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.finding import Finding
from pipeline.run_audit import RunAudit
from tests.support.command import REPOSITORY, Ended, run_command
from tests.support.manifest_rows import FAST_SETTINGS, image_row, write_manifest
from tests.support.run_output import RunOutput

IDS = [f"row{number}" for number in range(6)]
POISONED = ("row1",)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "m.parquet", [image_row(row_id) for row_id in IDS])


def run(manifest: Path, model: Path, workers: int) -> Ended:
    spec: dict[str, Any] = {"model": str(model), "workers": workers, "pipeline": {"segment_rows": 3}}
    paths = os.pathsep.join((str(REPOSITORY / "tests" / "support" / "poison"), str(REPOSITORY)))
    poison = {"PYTHONPATH": paths, "POISON_ROWS": ",".join(POISONED)}
    return run_command(manifest, manifest.parent / "out", FAST_SETTINGS | spec, poison)


def check_only_poison_is_missing(output: RunOutput) -> None:
    output.check_complete(IDS)
    assert sorted(output.by_id()) == [row_id for row_id in IDS if row_id not in POISONED]
    for failure in output.failures():
        assert (failure["error_type"], failure["failure_class"], failure["attempts"]) == ("WorkerDied", "crash", 2)
    (quarantine,) = output.keys("_quarantine/")
    assert [each["id"] for each in json.loads(output.store.get(quarantine))] == list(POISONED)
    assert output.keys("_suspects/") == []
    findings: list[Finding] = []
    orphans: list[str] = []
    RunAudit(output.store, findings.append, orphans.append).run()
    assert (findings, orphans) == ([], [])


def test_poison_kills_a_run_without_workers_once_and_never_again(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output = RunOutput(tmp_path / "out")
    assert run(manifest, tiny_checkpoint, 0).returncode == -signal.SIGKILL
    assert output.keys("_suspects/") != []
    second = run(manifest, tiny_checkpoint, 0)
    assert second.returncode == 3, second.stderr
    assert "rows are run one at a time" in second.stderr
    assert second.summary["workers_lost"] == len(POISONED)
    check_only_poison_is_missing(output)


def test_poison_costs_a_run_with_workers_two_deaths_at_most_and_only_itself(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    ended = run(manifest, tiny_checkpoint, 1)
    assert ended.returncode == 3, ended.stderr
    assert ended.summary["workers_lost"] == 1 + len(POISONED)
    check_only_poison_is_missing(RunOutput(tmp_path / "out"))
