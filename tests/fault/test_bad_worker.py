"""A worker whose numbers are wrong costs no row, and a type that overflows costs no more than a few."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.random_checkpoint import write_random_checkpoint
from pipeline.verify.audit import RunAudit
from pipeline.verify.finding import Finding
from tests.support.command import REPOSITORY, run_command
from tests.support.in_process import command, run_here
from tests.support.manifest_rows import FAST_SETTINGS, encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput


@pytest.mark.soak
def test_rows_of_a_bad_worker_are_run_by_the_other_with_the_results_that_they_always_have(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    ids = [f"row{number}" for number in range(40)]
    manifest = write_manifest(tmp_path / "m.parquet", [image_row(row_id) for row_id in ids])
    spec = {"model": str(tiny_checkpoint), "workers": 2, "pipeline": {"segment_rows": 1}}
    paths = os.pathsep.join((str(REPOSITORY / "tests" / "support" / "poison"), str(REPOSITORY)))
    bad = {"PYTHONPATH": paths, "BAD_WORKER": str(tmp_path / "bad")}
    ended = run_command(manifest, tmp_path / "out", FAST_SETTINGS | spec | {"failures": {"max_engine_streak": 3}}, bad)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "bad").exists()
    assert ended.summary["workers_lost"] >= 1  # on a machine that runs full, Ray ends others too
    output = RunOutput(tmp_path / "out")
    output.check_complete(ids)
    assert output.keys("_suspects/") == []
    findings: list[Finding] = []
    assert RunAudit(output.store, findings.append, lambda orphan: None).run().has_ended
    assert findings == []
    run_here(manifest, tmp_path / "alone", tiny_checkpoint, pipeline={"segment_rows": 1})
    assert output.results() == RunOutput(tmp_path / "alone").results()


def overflowing_checkpoint(directory: Path) -> Path:
    """Weights that bfloat16 carries and whose products are too large for float16."""
    write_random_checkpoint(directory)
    weights = load_file(directory / "model.safetensors")
    for name, weight in weights.items():
        is_gate = "blocks.0." in name and ("ff_proj" in name or "up_proj" in name)
        weights[name] = (weight * 300 if is_gate else weight).to(torch.bfloat16)
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    return directory


@pytest.mark.soak
def test_a_run_in_a_type_that_overflows_stops_and_resumes_in_another(tmp_path: Path) -> None:
    model = overflowing_checkpoint(tmp_path / "model")
    image = encoded(picture(0, (32, 32)))
    rows = [image_row(f"image{number}", steps=2) for number in range(3)]
    rows += [text_row(f"text{number}", image, max_tokens=8) for number in range(3)]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    options = ["--model", model, "--workers", 0, "--output", tmp_path / "out"]
    for setting in ("understanding.resolution=native", "understanding.block_length=8", "pipeline.segment_rows=2"):
        options += ["--set", setting]
    stopped = command(manifest, *options, "--set", "dtype=float16", "--set", "failures.max_engine_streak=5")
    assert stopped.exit_code == 4, stopped.stderr
    assert "logits of step 1 are not finite in float16: set dtype=bfloat16 or dtype=float32" in stopped.stderr
    assert list((tmp_path / "out").glob("parts/*")) == []
    resumed = command(manifest, *options, "--set", "dtype=bfloat16", "--accept-change", "dtype")
    assert resumed.exit_code == 0, resumed.stderr
    RunOutput(tmp_path / "out").check_complete([str(row["id"]) for row in rows])
