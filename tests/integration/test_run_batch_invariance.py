"""A row's result does not depend on what else is run, in which order, or by how many workers: same bytes, always."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.command import run_command
from tests.support.in_process import run_here
from tests.support.manifest_rows import FAST_SETTINGS, mixed_rows, write_manifest, write_photos
from tests.support.run_output import RunOutput


@pytest.mark.parametrize("row", mixed_rows(), ids=lambda row: row["id"])
@pytest.mark.usefixtures("loaded_once")
def test_a_row_alone_gives_what_it_gives_among_others(
    row: dict[str, Any], mixed_results: dict[str, str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path)
    run_here(write_manifest(tmp_path / "m.parquet", [row]), tmp_path / "out", tiny_checkpoint)
    assert RunOutput(tmp_path / "out").results() == {row["id"]: mixed_results[row["id"]]}


@pytest.mark.usefixtures("loaded_once")
def test_the_first_rows_alone_give_what_they_give_among_others(
    mixed_results: dict[str, str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path)
    manifest = write_manifest(tmp_path / "m.parquet", mixed_rows())
    run_here(manifest, tmp_path / "out", tiny_checkpoint, limit=4)
    first = [row["id"] for row in mixed_rows()[:4]]
    assert RunOutput(tmp_path / "out").results() == {row_id: mixed_results[row_id] for row_id in first}


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("max_step_tokens", [1, 60, 16_384])
def test_neither_the_order_of_rows_nor_the_size_of_batches_matters(
    max_step_tokens: int, mixed_results: dict[str, str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path)
    manifest = write_manifest(tmp_path / "m.parquet", mixed_rows()[::-1])
    pipeline = {"segment_rows": 4, "max_rows_in_flight": 5}
    run_here(
        manifest, tmp_path / "out", tiny_checkpoint, pipeline=pipeline, engine={"max_step_tokens": max_step_tokens}
    )
    assert RunOutput(tmp_path / "out").results() == mixed_results


@pytest.mark.long
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.soak), 2])
def test_ray_workers_give_what_this_process_gives(
    workers: int, mixed_results: dict[str, str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path)
    manifest = write_manifest(tmp_path / "m.parquet", mixed_rows())
    spec = FAST_SETTINGS | {"model": str(tiny_checkpoint), "workers": workers, "pipeline": {"segment_rows": 2}}
    ended = run_command(manifest, tmp_path / "out", spec)
    assert ended.returncode == 0, ended.stderr
    assert ended.summary["done"] == len(mixed_rows())
    output = RunOutput(tmp_path / "out")
    output.check_complete(mixed_results)
    assert output.results() == mixed_results
