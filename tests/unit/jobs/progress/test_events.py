"""What is reported: events of one schema, as lines for people, as JSON for programs, and in the output."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dimoo_core.errors import ConfigError
from jobs.cli import app
from jobs.progress.events import SCHEMA, as_mapping, report
from jobs.progress.log import LOGGER, StderrHandler
from jobs.progress.monitor import OutputLog
from manifests.errors import RowFailure
from pipeline.output.results import RunTotals
from pipeline.protocol import messages
from pipeline.protocol.messages import SegmentCommitted, WorkerDied, WorkerFailed, WorkerReady
from pipeline.storage.local import LocalStore
from tests.support.command import REPOSITORY
from tests.support.manifest_rows import image_row, write_manifest
from tests.support.stub_model import use_stub_model

FAILED = RowFailure(3, "row3", "fetch", "ObjectNotFound", "gone", "not_found")


def test_every_message_of_a_worker_is_an_event() -> None:
    assert set(messages.Event.__args__) <= set(SCHEMA)  # type: ignore[attr-defined]


def test_every_event_is_documented() -> None:
    page = (REPOSITORY / "docs" / "events.md").read_text()
    for kind, state, _ in SCHEMA.values():
        assert f"| `{kind}` | `{state}` |" in page


def test_events_are_plain_values() -> None:
    committed = SegmentCommitted("0000000-00001", RunTotals(3, 1), (("not_found", 1),), (FAILED,))
    assert json.loads(json.dumps(as_mapping(committed, "w1"))) == {
        "event": "segment",
        "state": "committed",
        "worker": "w1",
        "segment_name": "0000000-00001",
        "totals": {"num_done": 3, "num_failed": 1},
        "failures": {"not_found": 1},
    }
    assert as_mapping(WorkerFailed(ConfigError("no")), "w1")["error"] == "no"
    assert as_mapping(FAILED)["event"] == "row"


def test_the_failed_rows_of_a_segment_are_events_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dimoo_batch")
    report(SegmentCommitted("0000000-00001", RunTotals(0, 1), (("not_found", 1),), (FAILED,)), "w1")
    assert [record.event["event"] for record in caplog.records] == ["segment", "row"]  # type: ignore[attr-defined]
    assert "id=row3" in caplog.messages[1]


def test_a_program_may_collect_what_is_reported_by_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "dimoo_batch")
    report(WorkerReady(1.0), "w1")
    report(WorkerDied("out of memory"), "w1")
    assert [(record.name, record.levelname) for record in caplog.records] == [("dimoo_batch.jobs", "WARNING")]


def invoked(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    use_stub_model(monkeypatch)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a"), image_row("b", width=7)])
    return ["run", manifest, "--output", tmp_path / "out", "--model", "stub", "--workers", "0"]


def test_json_lines_hold_every_kind_of_event_and_nothing_else(finished: list[object]) -> None:
    ended = invoked(*finished, "--log-json")
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert {event["event"] for event in events} == {"log", "run", "segment", "row", "worker", "progress"}
    assert all("at" in event for event in events)
    assert json.loads(ended.stdout)["failed"] == 1


def test_people_are_shown_lines_and_no_events(finished: list[object]) -> None:
    shown = invoked(*finished).stderr
    assert "2/2 rows, 1 failed" in shown
    assert "segment" not in shown
    assert "segment committed" in invoked(*finished, "--new-run", "--set", "seed=1", "--log-level", "debug").stderr


def test_only_warnings_are_shown_if_that_is_asked_for(finished: list[object]) -> None:
    assert "rows in 1 file" not in invoked(*finished, "--log-level", "warning").stderr
    refused = invoked(*finished, "--log-level", "loud")
    assert refused.exit_code == 2
    assert "--log-level must be one of debug, info, warning, error, got 'loud'" in refused.stderr


def test_the_log_of_a_start_lies_in_the_output_and_is_no_orphan(finished: list[object], tmp_path: Path) -> None:
    invoked(*finished)
    log = (tmp_path / "out" / "_epochs" / "000001.log").read_text()
    for words in ("manifest ", "worker ready", "segment committed", "row failed", "run ended"):
        assert words in log
    assert "_epochs" not in invoked("verify", tmp_path / "out", "--orphans").stdout


def test_a_log_keeps_its_newest_lines_and_a_store_that_fails_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Epoch:
        number = 1

    monkeypatch.setattr("jobs.progress.monitor._MAX_LOG_BYTES", 400)
    (tmp_path / "file").touch()
    with OutputLog() as output_log:
        for number in range(100):
            LOGGER.warning("line %d", number)
        output_log.open(LocalStore(str(tmp_path / "file" / "out")), Epoch())  # type: ignore[arg-type]
        output_log.write()
        LOGGER.warning("the last line")
        output_log.open(LocalStore(str(tmp_path / "out")), Epoch())  # type: ignore[arg-type]
    lines = (tmp_path / "out" / "_epochs" / "000001.log").read_text().splitlines()
    assert lines[-1].endswith("WARNING dimoo_batch the last line")
    assert len(lines) < 10


def test_the_command_logs_once_however_often_it_is_called(finished: list[object]) -> None:
    invoked(*finished)
    invoked(*finished)
    assert sum(isinstance(handler, StderrHandler) for handler in LOGGER.handlers) == 1
    assert logging.getLogger().handlers == [] or all(
        not isinstance(handler, StderrHandler) for handler in logging.getLogger().handlers
    )
