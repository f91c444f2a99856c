"""Tasks that make an image from an image, from a manifest to files."""

from pathlib import Path

import pyarrow.dataset as ds
import pytest
from PIL import Image

from manifests.errors import ManifestRowError
from manifests.row.parse import Row, parse_row
from manifests.row.settings import IMAGE_TO_IMAGE, RowDefaults
from manifests.tasks import TASKS
from pipeline.output.parts import PARTS_PREFIX
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, picture, write_manifest

NAMES = [name for name, task in TASKS.items() if task.kind == "image_to_image"]
FAST = {"image_to_image": {"steps": 2, "resolution": 32}}


def rows_of_every_task() -> list[dict[str, object]]:
    """Two rows of each task, their images of two shapes."""
    return [
        {
            "id": f"{name}-{number}",
            "task": name,
            "prompt": "a red hat" if TASKS[name].needs_prompt or number else None,
            "image": {"bytes": encoded(picture(number, size)), "path": None},
            "preset": None,
        }
        for name in NAMES
        for number, size in enumerate(((48, 48), (120, 60)))
    ]


@pytest.fixture
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    load_models_once(monkeypatch)


@pytest.mark.usefixtures("_one_model")
def test_every_task_makes_an_image_that_depends_on_neither_order_nor_batch(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    rows = rows_of_every_task()
    digests = []
    for name, ordered in (("forth", rows), ("back", rows[::-1])):
        manifest, output = write_manifest(tmp_path / f"{name}.parquet", ordered), tmp_path / name
        limits = {"max_rows_in_flight": 128 if name == "forth" else 3}
        summary = run_here(manifest, output, tiny_checkpoint, pipeline=limits, **FAST)
        assert (summary.done, summary.failed) == (len(rows), 0)
        done = ds.dataset(output / PARTS_PREFIX).to_table().to_pylist()
        for row in done:
            with Image.open(output / row["output"]) as image:
                assert image.size == (row["width"], row["height"])
            assert row["cfg_image_scale"] == IMAGE_TO_IMAGE.cfg_image_scale
        digests.append({row["id"]: row["sha256"] for row in done})
    assert digests[0] == digests[1]
    assert digests[0]["edit-0"] != digests[0]["edit-1"]


def parsed(**record: object) -> Row:
    return parse_row({"image": b"x", "prompt": "a red hat", **record}, 0, RowDefaults())


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_refused_with_column_value_and_fix(name: str) -> None:
    def refusal(**record: object) -> str:
        with pytest.raises(ManifestRowError) as caught:
            parsed(task=name, **record)
        return str(caught.value)

    assert refusal(image=None) == f"image is null, task {name!r} needs one: give a URI or bytes"
    assert refusal(width=512) == f"width is not used by task {name!r}, got 512: leave it null"
    assert refusal(prompt=" ").startswith("prompt must not be empty")
    assert refusal(prompt=["a", "b"]) == "prompt must be text, got ['a', 'b']"
    assert refusal(cfg_image_scale=-1) == "cfg_image_scale must be 0 or more, got -1.0"
    assert refusal(cfg_scale=[1.0]).startswith("cfg_scale must be one finite number")
    if TASKS[name].needs_prompt:
        assert refusal(prompt=None).startswith("prompt is null")


def test_a_prediction_has_the_models_template_or_with_words_of_ones_own_the_scripts() -> None:
    task = TASKS["canny_pred"]
    own, free = parsed(task="canny_pred", prompt=None), parsed(task="canny_pred")
    assert own.prompt == "Generate a canny edge map according to the image."
    assert task.system_for(own.prompt) == "Perform dense prediction on the given images."
    assert task.system_for(free.prompt) == "Generate an image according to the prompt and image."
