"""One row once more: the same result as in the run, and pictures of its steps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.tools.replay import ReplaySummary
from pipeline.storage.reader import open_store
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest


@pytest.fixture
def output(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    load_models_once(monkeypatch)
    monkeypatch.setattr("jobs.tools.replay.load_model", lambda *arguments, **options: _loaded(*arguments, **options))
    rows = [
        image_row("first"),
        image_row("long", steps=5, width=32, height=48),
        text_row("answer", encoded(picture(1))),
        text_row("broken", b"no image"),
    ]
    write_manifest(tmp_path / "m.parquet", rows)
    run_here(tmp_path / "m.parquet", tmp_path / "out", tiny_checkpoint, seed=3)
    return tmp_path / "out"


def _loaded(*arguments: Any, **options: Any) -> Any:
    from pipeline.worker import worker

    return worker.load_model(*arguments, **options)


def replay(output: Path, row_id: str, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["replay", str(output), row_id, *arguments])


def test_an_image_comes_out_as_in_the_run_with_a_strip_of_its_steps(output: Path) -> None:
    before = sorted(open_store(str(output)).list("parts/"))
    ended = replay(output, "long", "--json")
    assert ended.exit_code == 0, ended.output
    summary = json.loads(ended.stdout)
    assert (summary["row"], summary["is_same"], summary["steps"]) == (1, True, 5)
    assert [key.rsplit("-", 1)[1] for key in summary["strip"]] == [f"{step:04d}.webp" for step in range(1, 6)]
    assert all((output / key).is_file() for key in summary["strip"])
    assert sorted(open_store(str(output)).list("parts/")) == before

    assert CliRunner().invoke(app, ["report", str(output)]).exit_code == 0
    page = (output / "report" / "index.html").read_text()
    assert summary["strip"][0] in page
    assert CliRunner().invoke(app, ["verify", str(output)]).exit_code == 0


def test_a_row_is_found_by_its_number_too(output: Path) -> None:
    ended = replay(output, "0")
    assert ended.exit_code == 0, ended.output
    assert "the same as the run's" in ended.stdout


def test_an_answer_comes_out_as_in_the_run(output: Path) -> None:
    summary = json.loads(replay(output, "answer", "--json").stdout)
    assert (summary["is_same"], summary["strip"]) == (True, [])


def test_an_answer_is_told_without_the_space_that_it_begins_with(monkeypatch: pytest.MonkeyPatch) -> None:
    summary = ReplaySummary(row=0, id="a", outcome=" a cat", is_same=True, steps=3)
    monkeypatch.setattr("jobs.tools.replay.replay_row", lambda *arguments, **options: summary)
    assert "row 0 (a) in 3 steps: a cat\n" in replay(Path("out"), "a").stdout
    assert json.loads(replay(Path("out"), "a", "--json").stdout)["outcome"] == " a cat"


def test_a_row_that_failed_says_why_again(output: Path) -> None:
    ended = replay(output, "broken")
    assert ended.exit_code == 0, ended.output
    assert "failed at decode" in ended.stdout
    assert "none to compare" in ended.stdout


def test_a_row_that_is_not_there_is_refused(output: Path) -> None:
    ended = replay(output, "nobody")
    assert ended.exit_code == 2
    assert "no committed row with the id 'nobody'" in ended.stderr
    assert "has rows 0 to 3" in replay(output, "99").stderr


def changed_description(output: Path, change: Callable[[dict[str, Any]], object]) -> None:
    description = json.loads((output / "run.json").read_text())
    change(description["results"])
    (output / "run.json").write_text(json.dumps(description))


def test_a_row_whose_preset_meant_something_else_is_not_replayed(output: Path) -> None:
    changed_description(output, lambda results: results["presets"]["fast"].update(uncond_interval=5))
    assert replay(output, "0").exit_code == 0
    changed_description(output, lambda results: results["presets"]["exact"].update(uncond_interval=5))
    ended = replay(output, "0")
    assert ended.exit_code == 2
    assert f"preset 'exact' has changed since the run at {output} was made" in ended.output


def test_a_run_with_a_setting_that_is_no_more_is_not_replayed(output: Path) -> None:
    changed_description(output, lambda results: results["defaults"]["text_to_image"].update(warmth=2))
    ended = replay(output, "0")
    assert ended.exit_code == 2
    assert (
        "made by another version of dimoo-batch: this one cannot read defaults.text_to_image.warmth of" in ended.output
    )
