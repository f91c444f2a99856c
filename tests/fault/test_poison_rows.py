"""Rows that kill the process that runs them: each costs the run at most one death, and then only itself."""

import json
import os
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.verify.audit import RunAudit
from pipeline.verify.finding import Finding
from tests.support.command import REPOSITORY, Ended, run_command
from tests.support.manifest_rows import FAST_SETTINGS, image_row, write_manifest
from tests.support.run_output import RunOutput

IDS = [f"row{number}" for number in range(6)]
POISONED = ("row1",)
POISON = {"POISON_ROWS": ",".join(POISONED)}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "m.parquet", [image_row(row_id) for row_id in IDS])


def run(manifest: Path, model: Path, workers: int, poison: Mapping[str, str] = POISON, **more: Any) -> Ended:
    spec: dict[str, Any] = {"model": str(model), "workers": workers, "pipeline": {"segment_rows": 3}} | more
    paths = os.pathsep.join((str(REPOSITORY / "tests" / "support" / "poison"), str(REPOSITORY)))
    return run_command(manifest, manifest.parent / "out", FAST_SETTINGS | spec, {"PYTHONPATH": paths, **poison})


def check_only_poison_is_missing(output: RunOutput, failure_class: str = "crash") -> None:
    output.check_complete(IDS)
    assert sorted(output.by_id()) == [row_id for row_id in IDS if row_id not in POISONED]
    for failure in output.failures():
        told = (failure["error_type"], failure["failure_class"], failure["attempts"])
        assert told == ("WorkerDied", failure_class, 2)
    (quarantine,) = output.keys("_quarantine/")
    assert [each["id"] for each in json.loads(output.store.get(quarantine))] == list(POISONED)
    assert output.keys("_suspects/") == []
    findings: list[Finding] = []
    orphans: list[str] = []
    assert RunAudit(output.store, findings.append, orphans.append).run().has_ended
    assert (findings, orphans) == ([], [])


@pytest.mark.soak
def test_poison_kills_a_run_without_workers_once_and_never_again(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output = RunOutput(tmp_path / "out")
    assert run(manifest, tiny_checkpoint, 0).returncode == -signal.SIGKILL
    assert output.keys("_suspects/") != []
    second = run(manifest, tiny_checkpoint, 0)
    assert second.returncode == 3, second.stderr
    assert "run last, one at a time" in second.stderr
    assert second.summary["workers_lost"] == len(POISONED)
    check_only_poison_is_missing(output)


@pytest.mark.soak
def test_poison_costs_a_run_with_workers_two_deaths_at_most_and_only_itself(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    ended = run(manifest, tiny_checkpoint, 1)
    assert ended.returncode == 3, ended.stderr
    assert ended.summary["workers_lost"] == 1 + len(POISONED)
    check_only_poison_is_missing(RunOutput(tmp_path / "out"))


@pytest.mark.soak
@pytest.mark.parametrize(
    ("hanging", "reason"),
    [("HANGING_ROWS", "one of its threads hung for"), ("HANGING_STEPS", "no heartbeat for")],
    ids=["the thread that prepares the row", "the engine"],
)
def test_a_worker_that_hangs_is_killed_and_the_row_that_it_hangs_with_is_found(
    hanging: str, reason: str, manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    ended = run(manifest, tiny_checkpoint, 1, {hanging: POISONED[0]}, worker_life={"hang_timeout_s": 8.0})
    assert ended.returncode == 3, ended.stderr
    output = RunOutput(tmp_path / "out")
    check_only_poison_is_missing(output, failure_class="timeout")
    assert reason in output.failed_by_id()[POISONED[0]]["message"]


@pytest.mark.soak
def test_a_worker_that_grows_is_replaced_before_it_has_grown_much_and_nothing_is_computed_twice(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    """Each row leaks 64 MiB, 900 MiB in all; a worker may grow by 200 MiB, and then finishes what it has begun."""
    ids = [f"row{number}" for number in range(14)]
    manifest = write_manifest(tmp_path / "m.parquet", [image_row(row_id) for row_id in ids])
    ended = run(
        manifest,
        tiny_checkpoint,
        1,
        {"LEAK_LOG": str(tmp_path / "leaks")},
        pipeline={"segment_rows": 1, "fetch_threads": 1, "max_rows_in_flight": 2},
        worker_life={"max_growth_bytes": 200 * 2**20},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.summary["workers_lost"] == 0
    output = RunOutput(tmp_path / "out")
    output.check_complete(ids)
    assert output.keys("_suspects/") == []
    leaks = [line.split() for line in (tmp_path / "leaks").read_text().splitlines()]
    assert sorted(row_id for _, row_id in leaks) == sorted(ids)
    leaked_rows = Counter(process for process, _ in leaks)
    assert len(leaked_rows) >= 2
    assert max(leaked_rows.values()) <= 11  # until it counts as growth, until it is noticed, and what was begun
