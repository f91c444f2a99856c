"""Rows with the reference's names through a run: the same images, and their names in the output."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.worker import worker
from tests.integration.test_series_tasks import FAST, SERIES_SCHEMA
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, picture, write_manifest
from tests.support.run_output import RunOutput

PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "canny_dense": ("canny_pred", {}),
    "sam2mask_dense": ("seg_pred", {}),
    "image_ref_transfer": ("style_transfer", {"style_image": encoded(picture(9, (64, 32)))}),
    "multi_view_left": ("multi_view", {"view_names": ["left"]}),
}
"""Names of the reference, and the product's task that makes the same, with its columns."""


def _rows() -> list[dict[str, Any]]:
    common = {"image": {"bytes": encoded(picture(1, (48, 48))), "path": None}, "seed": 3}
    rows = []
    for name, (own, columns) in PAIRS.items():
        shared = {key: value for key, value in columns.items() if key != "view_names"}
        rows.append({"id": f"{name} here", "task": own, **common, **columns})
        rows.append({"id": name, "task": name, "prompt": "whatever the user says", **common, **shared})
    return [*rows, {"id": "wrong", "task": "canny_dens", **common}]


def test_a_name_of_the_reference_makes_the_same_image_and_stays_in_the_output(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    monkeypatch.setattr("jobs.tools.replay.load_model", worker.load_model)
    manifest = write_manifest(tmp_path / "m.parquet", _rows(), SERIES_SCHEMA)
    first = run_here(manifest, tmp_path / "out", tiny_checkpoint, **FAST)
    assert (first.done, first.failed) == (2 * len(PAIRS), 1)
    output = RunOutput(tmp_path / "out")
    done = {row["id"]: row for row in output.rows()}
    for name in PAIRS:
        here, there = done[f"{name} here"], done[name]
        assert (there["sha256"], there["prompt"]) == (here["sha256"], here["prompt"]), name
        assert there["task"] == name
    assert len({done[name]["sha256"] for name in PAIRS}) == len(PAIRS)
    (failure,) = output.failures()
    assert failure["message"].endswith("got 'canny_dens' (did you mean 'canny_dense'?)")

    again = run_here(manifest, tmp_path / "out", tiny_checkpoint, **FAST)
    assert (again.done, again.failed) == (2 * len(PAIRS), 1)
    assert {row["id"]: row for row in RunOutput(tmp_path / "out").rows()} == done
    for name in ("sam2mask_dense", "multi_view_left"):
        replayed = CliRunner().invoke(app, ["replay", str(tmp_path / "out"), name])
        assert replayed.exit_code == 0, replayed.output
        assert "the same as the run's" in replayed.stdout
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "out")]).exit_code == 0


def test_a_plan_counts_a_name_of_the_reference_as_the_task_that_makes_the_same(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    manifest = write_manifest(tmp_path / "m.parquet", _rows()[:-1], SERIES_SCHEMA)
    planned = CliRunner().invoke(app, ["plan", str(manifest), "--model", str(tiny_checkpoint), "--json"])
    assert planned.exit_code == 0, planned.output
    groups = {group["task"]: group for group in json.loads(planned.stdout)["groups"]}
    for name, (own, _) in PAIRS.items():
        assert groups[name]["flops"] == groups[own]["flops"] > 0
        assert (groups[name]["rows"], groups[name]["size"]) == (1, groups[own]["size"])
