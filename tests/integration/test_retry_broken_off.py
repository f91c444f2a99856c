"""A retry breaks off, at any of its writes or beside another attempt: the same command makes it good."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import pipeline.worker.worker
from jobs.run.retry import retry_job
from jobs.run.retry_plan import RetryOptions
from manifests.errors import RowFailure
from manifests.row.parse import Row
from pipeline.errors import RunFailed
from pipeline.output.directory import RunDirectory
from pipeline.output.parts import PartName
from pipeline.output.results import PartSummary
from pipeline.storage.errors import StoreError
from tests.support.breaking_disk import BreakingDisk
from tests.support.failed_run import IDS, add_photos, check_good, retry, rows
from tests.support.in_process import run_here
from tests.support.manifest_rows import image_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.stub_model import use_stub_model

pytestmark = pytest.mark.soak

_OURS = ("images/", "parts/", "_failures/", "_SUCCESS", "_retries/")


IDS_OF_SLOW = ["slow0", "slow1", "quick0", "slow2", "slow3", "quick1"]


_PREPARE = pipeline.worker.worker.Preprocessor.preprocess


@pytest.fixture
def timed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output of a run whose store was slow: four of its six rows have failed, in three segments."""
    use_stub_model(monkeypatch)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row(name) for name in IDS_OF_SLOW])
    fail_slow_rows(monkeypatch, "slow")
    run_here(manifest, tmp_path / "out", Path("stub"), pipeline={"segment_rows": 2})
    fail_slow_rows(monkeypatch, "slow0")
    return tmp_path / "out"


def fail_slow_rows(patch: pytest.MonkeyPatch, beginning: str) -> None:
    """From now on rows whose id begins like this time out, and no others."""

    def preprocess(preprocessor: Any, row: Row, folder: str) -> Any:
        if row.id.startswith(beginning):
            return RowFailure(row.index, row.id, "generate", "RequestTimedOut", "it was slow", "timeout")
        return _PREPARE(preprocessor, row, folder)

    patch.setattr(pipeline.worker.worker.Preprocessor, "preprocess", preprocess)


def test_a_start_that_breaks_off_at_any_write_is_made_good_by_the_same_command(
    timed_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = RetryOptions(workers=0)

    def retried(output: Path) -> RunOutput:
        assert (lambda summary: (summary.run.done, summary.run.failed))(retry_job(str(output), choice)) == (5, 1)
        now = RunOutput(output)
        now.check_complete(IDS_OF_SLOW)
        check_good(output, len(IDS_OF_SLOW))
        return now

    whole = retried(Path(shutil.copytree(timed_out, tmp_path / "whole")))
    broken_at: list[str] = []
    for number in range(100):
        disks = [BreakingDisk(_OURS, number, is_done_first) for is_done_first in (False, True)]
        for disk in disks:
            broken = Path(shutil.copytree(timed_out, tmp_path / f"broken-{number}-{disk.is_done_first}"))
            with monkeypatch.context() as patch, suppress(RunFailed, StoreError):
                disk.install(patch)
                retry_job(str(broken), choice)
            had_ended = json.loads((broken / "_retries" / "000001.json").read_text())["has_ended"] if number else False
            now = retried(broken)
            assert now.results() == whole.results()
            if not had_ended:  # else the same command is the next retry
                assert now.keys() == whole.keys()
                assert now.failures() == whole.failures()
        broken_at += disks[0].broken_at
        if not disks[0].broken_at:
            break
    assert {key.partition("/")[0] for key in broken_at} == {"images", "parts", "_failures", "_SUCCESS", "_retries"}
    assert len(broken_at) >= 12


def test_a_run_command_after_a_broken_retry_concludes_with_the_rows_as_they_stand(
    retriable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        BreakingDisk(("parts/",), 1, True).install(patch)
        assert retry(retriable, "--class", "not_found").exit_code != 0
    assert RunOutput(retriable).success() is None
    summary = run_here(retriable.parent / "m.parquet", retriable, Path("stub"), pipeline={"segment_rows": 2})
    assert summary.done + summary.failed == len(IDS)
    assert summary.done > 4
    RunOutput(retriable).check_complete(IDS)
    check_good(retriable)
    assert json.loads(retry(retriable, "--class", "not_found").stdout)["done"] == 7
    check_good(retriable)


def test_of_two_attempts_at_a_retry_the_first_part_stands(retriable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of an earlier epoch that goes on after its driver: its part is whole, and so is adopted."""
    commit = RunDirectory.commit

    def commit_second(run: RunDirectory, name: PartName, part: bytes, summary: PartSummary) -> PartSummary:
        commit(run, name, part, summary)
        return commit(run, name, b"of the second", PartSummary(99, ()))

    monkeypatch.setattr(RunDirectory, "commit", commit_second)
    assert json.loads(retry(retriable, "--class", "not_found").stdout)["mended"] == 3
    RunOutput(retriable).check_complete(IDS)
    check_good(retriable)


def test_a_stopped_run_is_retried_as_far_as_it_got_and_resumes_afterwards(
    failed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub_model(monkeypatch)
    write_manifest(tmp_path / "m.parquet", rows())
    with monkeypatch.context() as patch:
        BreakingDisk(("parts/",), 2, True).install(patch)
        with pytest.raises(RunFailed):
            run_here(
                tmp_path / "m.parquet",
                tmp_path / "out",
                Path("stub"),
                pipeline={"segment_rows": 2, "max_rows_in_flight": 1, "store_threads": 1},
            )
    add_photos(tmp_path)
    ended = retry(tmp_path / "out", "--class", "not_found")
    assert ended.exit_code == 3, ended.output
    summary = json.loads(ended.stdout)
    assert summary["left"] > 0
    assert (summary["status"], summary["done"] + summary["failed"] + summary["left"]) == ("incomplete", 10)
    assert summary["mended"] >= 1
    assert RunOutput(tmp_path / "out").success() is None
    run_here(tmp_path / "m.parquet", tmp_path / "out", Path("stub"), pipeline={"segment_rows": 2})
    RunOutput(tmp_path / "out").check_complete(IDS)
    check_good(tmp_path / "out")
