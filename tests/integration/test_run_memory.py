"""Runs whose model does not fit: refused before anything is read, and a type that memory chose stays."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dimoo_core.memory import check as memory_check
from dimoo_core.memory.check import FreeMemory
from tests.support.in_process import check_one_line, command


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = {"task": ["text_to_image"], "prompt": ["a boat"], "width": [32], "height": [32], "steps": [1]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def free(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    limit = FreeMemory(words="on this machine", num_bytes=num_bytes)
    monkeypatch.setattr(memory_check, "free_memory", lambda: [limit])
    monkeypatch.setattr(memory_check, "resident_bytes", lambda: 0)


def run(manifest: Path, model: Path, *more: object) -> Any:
    output = manifest.parent / "out"
    return command(manifest, "--model", model, "--output", output, "--set", "device=cpu", *more)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_model_that_does_not_fit_is_refused_before_ray_starts_and_leaves_nothing(
    manifest: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("jobs.run.workers.ray_cluster", never)
    free(monkeypatch, 150 * 2**20)
    ended = run(manifest, tiny_checkpoint, "--workers", workers)
    assert ended.exit_code == 2
    check_one_line(ended.stderr, "not enough memory", "150 MiB are free")
    assert not (manifest.parent / "out" / "run.json").exists()


def test_a_type_that_memory_has_chosen_stays_where_there_is_more(
    manifest: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.run.resources.dtype_that_fits", lambda need, num_workers: "bfloat16")
    first = run(manifest, tiny_checkpoint, "--workers", 0)
    assert first.exit_code == 0, first.stderr
    assert "dtype bfloat16: float32 would need" in first.stderr
    monkeypatch.undo()
    for part in (manifest.parent / "out" / "parts").iterdir():
        part.unlink()
    (manifest.parent / "out" / "_SUCCESS").unlink()
    again = run(manifest, tiny_checkpoint, "--workers", 0)
    assert again.exit_code == 0, again.stderr
    assert json.loads((manifest.parent / "out" / "run.json").read_text())["results"]["dtype"] == "bfloat16"
    free(monkeypatch, 150 * 2**20)
    finished = run(manifest, tiny_checkpoint, "--workers", 0)
    assert finished.exit_code == 0, finished.stderr
