"""A broken checkpoint is refused by every command in the same words, before anything is run."""

import shutil
from pathlib import Path

import pytest

from dimoo_core.errors import WeightsError
from jobs.plan.row_cost import read_model_facts
from jobs.tools.catalog import ModelState, model_entry
from jobs.tools.doctor import diagnose_model
from tests.support.broken_checkpoint import BROKEN_CHECKPOINTS, BrokenCheckpoint
from tests.support.in_process import check_one_line, command, run_here
from tests.support.manifest_rows import image_row, write_manifest

KNOWN_BEFORE = [broken for broken in BROKEN_CHECKPOINTS if not broken.known_on_reading]


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


@pytest.mark.parametrize("broken", KNOWN_BEFORE, ids=lambda broken: broken.name)
def test_run_doctor_models_and_plan_say_the_same(broken: BrokenCheckpoint, copy: Path, tmp_path: Path) -> None:
    broken.apply(copy)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    with pytest.raises(WeightsError) as refused:
        run_here(manifest, tmp_path / "o", copy)
    with pytest.raises(WeightsError) as planned:
        read_model_facts(str(copy))
    entry, (diagnosis,) = model_entry(str(copy)), diagnose_model(str(copy))
    assert str(planned.value) == str(refused.value) == entry.problem
    assert (entry.state, diagnosis.verdict) == (ModelState.BROKEN, "wrong")
    assert entry.problem in diagnosis.found
    assert not (tmp_path / "o" / "run.json").exists()


def test_the_table_is_long() -> None:
    assert len(KNOWN_BEFORE) >= 25


@pytest.mark.parametrize("name", ["image_token_offset 397", "NaN in the codec"])
def test_the_command_ends_with_2_and_one_line(name: str, copy: Path, tmp_path: Path) -> None:
    (broken,) = (each for each in BROKEN_CHECKPOINTS if each.name == name)
    broken.apply(copy)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    ended = command(manifest, "--model", copy, "--output", tmp_path / "o", "--workers", 0)
    assert ended.exit_code == 2
    check_one_line(ended.stderr, *broken.words)
