"""Functions of a user's own inside a run: what they change, score and reject."""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dimoo_core.errors import ConfigError
from jobs.tools.replay import replay_row
from pipeline.storage.reader import open_store
from pipeline.verify.audit import RunAudit
from tests.support.command import REPOSITORY, run_command
from tests.support.in_process import run_here
from tests.support.manifest_rows import FAST_SETTINGS, encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput

HOOKS = """
import threading

def style(cells):
    if cells["note"] == "unwanted":
        return "its note says so"
    if cells["note"] == "broken before":
        return {**cells, "width": 17}
    return {**cells, "prompt": cells["prompt"] + ", oil painting"}

def review(row):
    assert threading.current_thread().name.startswith(("store", "MainThread"))  # the latter in a replay
    if row.cells["note"] == "raises":
        raise KeyError("no such thing")
    if row.cells["note"] == "exits":
        raise SystemExit(3)
    if row.cells["note"] == "not a row":
        return 7
    if row.cells["note"] == "dropped":
        return None
    if row.cells["text"] is not None:
        row.cells["text"] = f"{row.cells['id']} {row.pixels.size}"
    elif row.cells["note"] == "rotated":
        row.pixels = row.pixels.rotate(90, expand=True)
    return row

class Size:
    def __call__(self, row):
        return None if row.cells["text"] is not None else row.pixels.width / 100

def bytes_of_file(row):
    return float("nan") if row.cells["note"] == "nan" else len(row.image.data)
"""

SPEC = {
    "hooks": {
        "rows": ["run_hooks_of_a_test:style"],
        "results": ["run_hooks_of_a_test:review"],
        "scores": {"size": "run_hooks_of_a_test:Size", "file": "run_hooks_of_a_test:bytes_of_file"},
        "min_scores": {"size": 0.3},
    },
    "pipeline": {"segment_rows": 3},
}
PHOTO = encoded(picture(1))
ROWS = [
    image_row("plain"),
    image_row("wide", width=64, height=32, note="rotated"),
    image_row("small", width=16, height=16),
    text_row("answer", PHOTO),
    *(image_row(note, note=note) for note in ("unwanted", "broken before", "raises", "exits", "not a row", "dropped")),
    image_row("nan", note="nan"),
]
REASONS = {
    "small": ("hook", "rejected", "HookRejected", "score size is 0.16, the least is 0.3"),
    "unwanted": ("hook", "rejected", "HookRejected", "hook 'run_hooks_of_a_test:style' rejected it: its note says so"),
    "broken before": ("manifest", "bad_input", "ManifestRowError", "(after run_hooks_of_a_test:style)"),
    "raises": ("hook", "hook", "HookFailed", "hook 'run_hooks_of_a_test:review' raised KeyError: 'no such thing'"),
    "exits": ("hook", "hook", "HookFailed", "hook 'run_hooks_of_a_test:review' raised SystemExit: 3"),
    "not a row": ("hook", "hook", "HookFailed", "must return the row, None, or a reason to reject it, got int"),
    "dropped": ("hook", "rejected", "HookRejected", "hook 'run_hooks_of_a_test:review' rejected it"),
    "nan": ("hook", "hook", "HookFailed", "must return a finite number or None, got nan"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the hooks in it."""
    (tmp_path / "run_hooks_of_a_test.py").write_text(HOOKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "run_hooks_of_a_test", raising=False)
    write_manifest(tmp_path / "m.parquet", ROWS)
    return tmp_path


def without_hooks(model: Path, folder: Path) -> dict[str, Any]:
    run_here(folder / "m.parquet", folder / "bare", model)
    return RunOutput(folder / "bare").by_id()


def check(output: Path) -> None:
    found = RunOutput(output)
    found.check_complete(row["id"] for row in ROWS)
    rows, failures = found.by_id(), found.failed_by_id()
    assert set(rows) == {"plain", "wide", "answer"}
    assert rows["plain"]["prompt"] == "a red bicycle, number plain, oil painting"
    assert (rows["wide"]["width"], rows["wide"]["height"]) == (32, 64)
    assert rows["answer"]["text"] == "answer (72, 48)"
    assert [rows[name]["score_size"] for name in ("plain", "wide", "answer")] == [0.32, 0.32, None]
    assert rows["plain"]["score_file"] == rows["plain"]["bytes"]
    assert set(failures) == set(REASONS)
    for row_id, (stage, failure_class, error_type, words) in REASONS.items():
        failure = failures[row_id]
        assert (failure["stage"], failure["failure_class"], failure["error_type"]) == (stage, failure_class, error_type)
        assert words in failure["message"]
    told: list[object] = []
    assert RunAudit(open_store(str(output)), told.append, told.append).run().is_complete, told
    assert not [key for key in found.keys("images/") if "small" in key or "raises" in key]


@pytest.mark.usefixtures("loaded_once")
def test_hooks_change_score_and_reject_rows_and_their_errors_are_the_rows_own(
    tiny_checkpoint: Path, folder: Path
) -> None:
    summary = run_here(folder / "m.parquet", folder / "out", tiny_checkpoint, **SPEC)
    assert (summary.done, summary.failed) == (3, 8)
    check(folder / "out")
    assert without_hooks(tiny_checkpoint, folder)["wide"]["width"] == 64


@pytest.mark.soak
def test_hooks_do_the_same_in_two_workers_as_in_this_process(tiny_checkpoint: Path, folder: Path) -> None:
    spec = FAST_SETTINGS | SPEC | {"model": str(tiny_checkpoint), "workers": 2}
    found_in = {"PYTHONPATH": f"{REPOSITORY}:{folder}"}
    ended = run_command(folder / "m.parquet", folder / "ray", spec, found_in)
    assert ended.returncode == 3, ended.stderr
    check(folder / "ray")
    run_here(folder / "m.parquet", folder / "out", tiny_checkpoint, **SPEC)
    assert RunOutput(folder / "ray").results() == RunOutput(folder / "out").results()
    assert RunOutput(folder / "ray").failed_by_id() == RunOutput(folder / "out").failed_by_id()


@pytest.mark.usefixtures("loaded_once")
def test_a_run_resumes_only_with_the_hooks_it_was_started_with(tiny_checkpoint: Path, folder: Path) -> None:
    run_here(folder / "m.parquet", folder / "out", tiny_checkpoint, **SPEC)
    decided = json.loads((folder / "out" / "run.json").read_text())["results"]["hooks"]
    assert decided["rows"] == ["run_hooks_of_a_test:style"]
    with pytest.raises(ConfigError, match="hooks: "):
        run_here(folder / "m.parquet", folder / "out", tiny_checkpoint, pipeline=SPEC["pipeline"])
    (folder / "run_hooks_of_a_test.py").write_text(HOOKS + "\n# changed\n")
    with pytest.raises(ConfigError, match=r"hooks\.digests\.run_hooks_of_a_test:style"):
        run_here(folder / "m.parquet", folder / "out", tiny_checkpoint, **SPEC)


@pytest.mark.usefixtures("loaded_once")
def test_a_row_is_replayed_with_the_hooks_of_its_run(tiny_checkpoint: Path, folder: Path) -> None:
    run_here(folder / "m.parquet", folder / "out", tiny_checkpoint, **SPEC)
    for row_id in ("wide", "answer"):
        assert replay_row(str(folder / "out"), row_id, manifest=None).is_same is True


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ({"rows": "run_hooks_of_a_test:nothing"}, "cannot be imported"),
        ({"results": ["no_such_entry"]}, "neither module:function nor ./file.py:function nor an entry point"),
        ({"min_scores": {"size": 1.0}}, "there is no score 'size'; hooks.scores has: none"),
        ({"scores": {"two words": "run_hooks_of_a_test:Size"}}, "a score's name is a word"),
    ],
)
def test_hooks_that_cannot_be_called_are_told_before_anything_is_run(
    hooks: dict[str, Any], words: str, tiny_checkpoint: Path, folder: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        run_here(folder / "m.parquet", folder / "out", tiny_checkpoint, hooks=hooks)
    assert not (folder / "out" / "run.json").exists()


@pytest.mark.usefixtures("loaded_once")
def test_a_score_may_not_hide_a_column_of_the_manifest(tiny_checkpoint: Path, folder: Path) -> None:
    table = pq.read_table(folder / "m.parquet")
    pq.write_table(
        table.rename_columns([f"score_{name}" if name == "note" else name for name in table.column_names]),
        folder / "m.parquet",
    )
    with pytest.raises(ConfigError, match="has a column 'score_note' already"):
        run_here(
            folder / "m.parquet",
            folder / "out",
            tiny_checkpoint,
            hooks={"scores": {"note": "run_hooks_of_a_test:Size"}},
        )


@pytest.mark.usefixtures("loaded_once")
def test_the_documented_hooks_of_a_run_do_what_the_page_says(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = (REPOSITORY / "examples" / "run_hooks.py").read_text().partition('"""\n\n')[2]
    assert shown in (REPOSITORY / "docs" / "hooks.md").read_text()
    monkeypatch.syspath_prepend(str(REPOSITORY / "examples"))
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a"), image_row("b", prompt="x" * 501)])
    hooks = {
        "rows": "run_hooks:in_oil",
        "results": ["run_hooks:first_sentence", "run_hooks:numbered"],
        "scores": {"sharpness": "run_hooks:Sharpness"},
    }
    run_here(manifest, tmp_path / "out", tiny_checkpoint, hooks=hooks)
    run_here(manifest, tmp_path / "bare", tiny_checkpoint, hooks={"rows": "run_hooks:in_oil"})
    (row,), (bare,) = RunOutput(tmp_path / "out").rows(), RunOutput(tmp_path / "bare").rows()
    assert row["prompt"].endswith(", oil painting")
    assert row["sha256"] != bare["sha256"]
    assert 0 < row["score_sharpness"] < 1
    assert "its prompt has 501 characters" in RunOutput(tmp_path / "out").failures()[0]["message"]
