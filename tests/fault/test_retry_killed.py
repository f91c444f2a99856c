"""A retry is killed with -9 in its middle: the same command ends it, no row is lost, none is there twice."""

import json
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.storage.reader import open_store
from pipeline.verify.audit import RunAudit
from tests.support.command import running_words
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput

LATE = [f"late{number}" for number in range(5)]
IDS = ["image", *LATE, "never"]
CLASSES = ("--class", "not_found", "--workers", "0", "--set", "pipeline.max_rows_in_flight=1")


@pytest.fixture
def output(place: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunOutput:
    """A run in which images were missing that are there now."""
    rows = [
        image_row("image"),
        *(text_row(name, f"photos/{name}.png", max_tokens=64, block_length=64, steps=64) for name in LATE),
        text_row("never", "photos/never.png"),
    ]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    load_models_once(monkeypatch)
    assert run_here(manifest, place, tiny_checkpoint, pipeline={"segment_rows": 1}).failed == len(LATE) + 1
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(LATE):
        (tmp_path / "photos" / f"{name}.png").write_bytes(encoded(picture(number)))
    return RunOutput(place)


def retried(output: RunOutput) -> list[str]:
    return [key for key in output.keys("parts/") if "-r1" in key]


@pytest.mark.soak
def test_a_retry_that_was_killed_is_ended_by_the_same_command(output: RunOutput) -> None:
    with running_words(["retry", output.store.uri, *CLASSES]) as running:
        running.wait_until(lambda: len(retried(output)) >= 2, "second part of the retry")
        running.signal(signal.SIGKILL)
        assert running.wait().returncode == -signal.SIGKILL
    earlier = {key: output.store.get(key) for key in output.keys("parts/")}
    assert 2 <= len(retried(output)) < len(LATE)
    assert output.success() is None

    ended = CliRunner().invoke(app, ["retry", output.store.uri, *CLASSES])
    assert ended.exit_code == 3, ended.stderr
    assert "resuming: retry 1" in ended.stderr
    summary = json.loads(ended.stdout)
    assert (summary["retry"], summary["done"], summary["failed"]) == (1, len(LATE) + 1, 1)
    assert summary["retried"] < len(LATE)
    assert {key: output.store.get(key) for key in earlier} == earlier
    output.check_complete(IDS)
    findings: list[object] = []
    assert RunAudit(open_store(output.store.uri), findings.append, findings.append).run().has_ended
    assert findings == []
