"""Which part of an input image is used: its middle, or for each kind of task by a setting of its own any part."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import SCHEMA, encoded, picture, write_manifest
from tests.support.run_output import RunOutput

SETTINGS = ("understanding", "image_to_image", "tokenize")
CROPPED_BY = {"vqa": "understanding", "edit": "image_to_image", "inpaint": "image_to_image", "tokenize": "tokenize"}
"""Tasks, and the section of the spec that says how their input images are cropped."""


def results(folder: Path, model: Path, **sections: Any) -> dict[str, Any]:
    """What each task makes of one wide picture whose left and right differ."""
    image = {"bytes": encoded(picture(5, (200, 40))), "path": None}
    rows = [
        {"id": task, "task": task, "image": image, "seed": 3, "prompt": "a hat", "mask_ratio": None}
        | ({"mask_ratio": [0.5, 0.5]} if task == "inpaint" else {})
        for task in CROPPED_BY
    ]
    schema = pa.schema([*SCHEMA, ("mask_ratio", pa.list_(pa.float64()))])
    spec = {"image_to_image": {"steps": 2, "resolution": 32}, "tokenize": {"resolution": 32}}
    merged = {name: {**spec.get(name, {}), **sections.get(name, {})} for name in SETTINGS}
    run_here(write_manifest(folder / "m.parquet", rows, schema), folder / "out", model, **merged)
    done = RunOutput(folder / "out").by_id()
    assert set(done) == set(CROPPED_BY)
    return {task: (row["sha256"], row["text"], row["vq_codes"]) for task, row in done.items()}


@pytest.fixture
def centred(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    load_models_once(monkeypatch)
    return results(tmp_path / "centred", tiny_checkpoint)


def test_a_random_crop_is_for_the_tasks_of_its_section_alone(
    centred: dict[str, Any], tmp_path: Path, tiny_checkpoint: Path
) -> None:
    for section in SETTINGS:
        found = results(tmp_path / section, tiny_checkpoint, **{section: {"random_crop": True}})
        changed = {task for task in CROPPED_BY if found[task] != centred[task]}
        assert changed == {task for task, by in CROPPED_BY.items() if by == section}, section
