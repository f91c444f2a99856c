"""How far a run is, told from its store: while it runs, after it was stopped, when it is complete."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.progress.monitor import MAX_POINTS, RunNote
from jobs.progress.state import ProgressState
from jobs.tools.status import RunStatus, read_status
from pipeline.output.directory import RunDirectory
from pipeline.output.epoch import RunEpoch, claimed_epoch, read_epoch_reports
from pipeline.output.results import RunTotals
from pipeline.output.retries import RetryRecords, RunRetry
from pipeline.protocol.messages import SegmentCommitted, WorkerProgress, WorkerReady
from pipeline.storage.reader import open_store
from tests.support.in_process import load_models_once, run_here
from tests.support.large_output import SEGMENT_ROWS, write_large_output
from tests.support.manifest_rows import image_row, text_row, write_manifest

PROGRESS = WorkerProgress(num_done=30, num_failed=0, num_steps=9, num_tokens=900, engine_busy_s=3.0, engine_span_s=4.0)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Half of a run of 2000 rows: one segment is committed."""
    write_large_output(tmp_path, 2 * SEGMENT_ROWS)
    (tmp_path / "parts" / "0000001-00000.parquet").unlink()
    (tmp_path / "_SUCCESS").unlink()
    return tmp_path


def state_of(num_rows: int = 2000) -> ProgressState:
    return ProgressState(num_rows=num_rows, num_resumed=0, num_workers=1, num_resumed_failed=0)


def told(output: object, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["status", str(output), *arguments])


def test_a_finished_run_is_complete(
    s3_bucket: str, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a"), image_row("b"), text_row("c", b"no image")])
    output = f"s3://{s3_bucket}/out"
    run_here(manifest, output, tiny_checkpoint)
    ended = told(output, "--json")
    assert ended.exit_code == 0
    found = json.loads(ended.stdout)
    assert (found["state"], found["rows"], found["done"], found["failed"], found["left"]) == ("complete", 3, 2, 1, 0)
    assert found["failures"] == {"decode: ImageUnreadable": 1}
    (report,) = read_epoch_reports(open_store(output))
    assert report.has_ended
    assert report.note["settled"] == 3
    assert report.note["points"][-1][1] == 3
    assert "2 done, 1 failed, 0 left of 3 (100.0%)" in told(output).stdout


def test_a_run_at_work_tells_its_rate_and_its_workers(begun: Path) -> None:
    state = state_of()
    with claimed_epoch(open_store(str(begun))) as epoch:
        state.take("worker-0", WorkerReady(1.0))
        state.take("worker-0", SegmentCommitted("0000000-00000", RunTotals(980, 20)))
        state.take("worker-0", WorkerProgress(**{**_fields(PROGRESS), "num_done": 1010, "num_failed": 20}))
        state._first_row_s = time.monotonic() - 60.0  # as if it had worked for a minute
        RunNote(state, epoch.note).refresh()
        epoch._end.set()
        epoch._thread.join()  # or its first sign of life, without the note, may be written after this one
        epoch._heartbeat(has_ended=False)
        found = read_status(str(begun))
        noted = read_status(str(begun), max_parts=0)
    assert (found.state, found.done, found.failed, found.left, found.in_flight) == ("running", 980, 20, 1000, 30)
    assert (noted.done, noted.failed, noted.left, noted.in_flight) == (980, 20, 1000, 30)
    assert "as last noted by the driver; --exact counts the parts" in "\n".join(noted.lines())
    assert found.rows_per_s is not None
    assert found.rows_per_s > 0
    assert found.eta_s is not None
    assert found.eta_error_s is not None
    (worker,) = found.workers
    assert (worker["name"], worker["state"], worker["rows"], worker["engine_busy_ratio"]) == (
        "worker-0",
        "at work",
        1030,
        0.75,
    )
    lines = "\n".join(found.lines())
    assert "980 done, 20 failed, 1000 left of 2000 (50.0%)" in lines
    assert "20 failed with fetch: ObjectNotFound" in lines


@pytest.mark.parametrize(("settled", "words"), [(960, ", 30 rows finished and not committed yet"), (930, "ETA 8:20\n")])
def test_rows_that_wait_for_their_commit_are_those_of_the_note_also_when_parts_have_come_since(
    settled: int, words: str, begun: Path
) -> None:
    with claimed_epoch(open_store(str(begun))) as epoch:
        epoch._end.set()
        epoch._thread.join()
        epoch.note({"rows": 2000, "settled": settled, "committed": 930, "failed": 0, "rows_per_s": 2.0})
        epoch._heartbeat(has_ended=False)
        found = read_status(str(begun))
    assert (found.done, found.in_flight) == (980, settled - 930)
    assert words in "\n".join(found.lines())


def test_no_time_to_go_is_told_before_the_driver_can_tell_it(begun: Path) -> None:
    with claimed_epoch(open_store(str(begun))) as epoch:
        epoch._end.set()
        epoch._thread.join()
        note = {"rows": 2000, "settled": 1030, "committed": 1000, "failed": 0, "rows_per_s": 2.0}
        shown = []
        for error in (None, 120.0):
            epoch.note({**note, "eta_error_s": error})
            epoch._heartbeat(has_ended=False)
            shown.append("\n".join(read_status(str(begun)).lines()))
    assert "2.00 rows/s, 30 rows finished" in shown[0]
    assert "2.00 rows/s, ETA 8:05 ± 2:00, 30 rows finished" in shown[1]


def test_a_run_of_many_parts_that_has_ended_is_told_without_reading_them(tmp_path: Path) -> None:
    write_large_output(tmp_path, 2 * SEGMENT_ROWS)
    exact, noted = (read_status(str(tmp_path), max_parts=most) for most in (2, 1))
    assert (exact.is_noted, noted.is_noted) == (False, True)
    assert (noted.done, noted.failed, noted.left) == (exact.done, exact.failed, exact.left) == (1960, 40, 0)
    for part in (tmp_path / "parts").iterdir():
        part.write_bytes(b"not looked at")
    assert read_status(str(tmp_path), max_parts=1) == noted


def test_a_run_of_many_parts_without_a_note_is_counted_from_them(begun: Path) -> None:
    assert read_status(str(begun), max_parts=0).done == 980


def test_a_run_that_was_stopped_says_so(begun: Path) -> None:
    with claimed_epoch(open_store(str(begun))):
        pass
    assert (read_status(str(begun)).state, read_status(str(begun)).rows_per_s) == ("stopped", None)


def test_a_driver_that_has_just_begun_is_at_work_before_its_first_heartbeat(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunEpoch, "_live", lambda epoch: None)
    with claimed_epoch(open_store(str(begun))):
        assert read_status(str(begun)).state == "running"
        assert read_status(str(begun), now=datetime.now(UTC) + timedelta(minutes=5)).state == "silent"


def test_a_driver_that_sends_no_heartbeat_any_more_is_silent(begun: Path) -> None:
    later = datetime.now(UTC) + timedelta(minutes=5)
    with claimed_epoch(open_store(str(begun))) as epoch:
        epoch._heartbeat(has_ended=False)
        found = read_status(str(begun), now=later)
    assert found.state == "silent"
    assert found.heard_s_ago is not None
    assert found.heard_s_ago > 290


@pytest.mark.parametrize(
    ("is_complete", "words"),
    [(False, "stopped, retry 2 was interrupted"), (True, "every row has a result, but retry 2 was interrupted")],
)
def test_an_interrupted_retry_is_told_with_the_command_that_resumes_it(
    begun: Path, is_complete: bool, words: str
) -> None:
    store = open_store(str(begun))
    with claimed_epoch(store):
        assert read_status(str(begun)).retry is None
        RetryRecords(store).begin(RunRetry(number=2, classes=("not_found", "oom"), started_at="now"))
        assert "a driver is at work, retry 2 has begun and not ended" in next(read_status(str(begun)).lines())
    if is_complete:
        RunDirectory(store).succeed(RunTotals(1980, 20))
    found = read_status(str(begun))
    assert (found.retry, found.retry_classes) == (2, ["not_found", "oom"])
    first = next(found.lines())
    assert words in first
    assert f"resume it: dimoo-batch retry {begun} --class not_found --class oom" in first
    RetryRecords(store).end(RunRetry(number=2, classes=("not_found", "oom"), started_at="now"))
    assert read_status(str(begun)).retry is None


def test_a_run_that_nobody_works_on_has_not_started(begun: Path) -> None:
    found = read_status(str(begun))
    assert (found.state, found.starts, found.driver) == ("not started", 0, None)


def test_what_is_no_output_is_refused(tmp_path: Path) -> None:
    ended = told(tmp_path)
    assert ended.exit_code == 2
    assert "is not the output of a run" in ended.stderr


def test_the_course_of_a_long_run_stays_short_and_keeps_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("jobs.progress.monitor.time.monotonic", lambda: now_s)
    notes: list[Any] = []
    note = RunNote(state_of(), notes.append)
    for _ in range(20 * MAX_POINTS):
        now_s += 5.0
        note.refresh()
    note.refresh(is_last=True)
    times = [point[0] for point in notes[-1]["points"]]
    assert len(times) <= MAX_POINTS
    assert (times[0], times[-1]) == (5.0, 20 * MAX_POINTS * 5.0)
    assert times == sorted(times)


def test_a_status_without_rows_is_a_whole_one() -> None:
    empty = RunStatus(
        output="o",
        state="complete",
        rows=0,
        done=0,
        failed=0,
        left=0,
        in_flight=0,
        failures={},
        rows_per_s=None,
        eta_s=None,
        eta_error_s=None,
        driver=None,
        heard_s_ago=None,
        starts=1,
    )
    assert "(100.0%)" in "\n".join(empty.lines())


def _fields(progress: WorkerProgress) -> dict[str, Any]:
    return {name: getattr(progress, name) for name in WorkerProgress.__dataclass_fields__}
