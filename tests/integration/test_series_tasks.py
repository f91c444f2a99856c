"""Rows that make more than one image, or from more than one: samples, turns, views, style."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dimoo_core.presets import PRESETS
from manifests.errors import ManifestRowError
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import SCHEMA, encoded, picture, write_manifest
from tests.support.run_output import RunOutput

SERIES_SCHEMA = pa.schema(
    [
        *SCHEMA,
        ("negative_prompt", pa.string()),
        ("prompts", pa.list_(pa.string())),
        ("view_names", pa.list_(pa.string())),
        ("style_image", pa.binary()),
        ("mask_box", pa.list_(pa.int32())),
        ("num_samples", pa.int32()),
        ("keep_images", pa.string()),
        ("preset", pa.string()),
    ]
)
FAST = {"text_to_image": {"steps": 3, "cfg_scale": 1.0}, "image_to_image": {"steps": 3, "resolution": 64}}


def row(row_id: str, task: str, seed: int = 0, size: tuple[int, int] = (48, 48), **columns: Any) -> dict[str, Any]:
    image = None if task == "text_to_image" else {"bytes": encoded(picture(seed, size)), "path": None}
    return {"id": row_id, "task": task, "image": image, "seed": seed} | columns


ROWS = [
    row("samples", "text_to_image", prompt="a boat", num_samples=3),
    row("first alone", "text_to_image", prompt="a boat"),
    row("not a dog", "text_to_image", prompt="a boat", negative_prompt="a dog"),
    row("edits", "edit", 1, prompt="a red hat", num_samples=2, negative_prompt="a blue hat"),
    row("painted", "inpaint", 2, prompt="a hat", mask_box=[16, 16, 32, 32], num_samples=2),
    row("style", "style_transfer", 3, style_image=encoded(picture(9, (120, 60)))),
    row("styles", "style_transfer", 3, style_image=encoded(picture(9, (60, 120))), num_samples=2),
    row("views", "multi_view", 4),
    row("one view", "multi_view", 4, view_names=["top"]),
    row("all turns", "multiturn_edit", 5, prompts=["a hat", "no hat", "a dog"], keep_images="all"),
    row("last turn", "multiturn_edit", 5, prompts=["a hat", "no hat", "a dog"]),
    row("one turn", "multiturn_edit", 5, prompts=["a hat"]),
    row("first edit", "edit", 5, prompt="a hat"),
]


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    load_models_once(monkeypatch)


def run_rows(rows: list[dict[str, Any]], folder: Path, model: Path, **pipeline: int) -> RunOutput:
    manifest = write_manifest(folder / "m.parquet", rows, SERIES_SCHEMA)
    run_here(manifest, folder / "out", model, pipeline=pipeline, **FAST)
    return RunOutput(folder / "out")


def digests(output: RunOutput) -> dict[str, list[str]]:
    return {row["id"]: [image["sha256"] for image in row["outputs"]] for row in output.rows()}


@pytest.fixture(scope="module")
def together(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> RunOutput:
    with pytest.MonkeyPatch.context() as patch:
        load_models_once(patch)
        output = run_rows(ROWS, tmp_path_factory.mktemp("together"), tiny_checkpoint)
    output.check_complete(row["id"] for row in ROWS)
    assert output.failures() == []
    return output


def test_every_image_of_a_row_is_stored_and_one_is_the_rows_own(together: RunOutput) -> None:
    numbers = {
        row["id"]: (len(row["outputs"]), [image["output"] for image in row["outputs"]].index(row["output"]))
        for row in together.rows()
    }
    assert {row_id: number for row_id, number in numbers.items() if number != (1, 0)} == {
        "samples": (3, 0),
        "edits": (2, 0),
        "painted": (2, 0),
        "styles": (2, 0),
        "views": (3, 0),
        "all turns": (3, 2),
    }
    for done in together.rows():
        for image in done["outputs"]:
            with Image.open(Path(together.store.uri) / image["output"]) as opened:
                assert opened.size == (image["width"], image["height"])


def test_samples_differ_and_the_first_is_that_of_the_row_without_them(together: RunOutput) -> None:
    found = digests(together)
    assert found["samples"][:1] == found["first alone"]
    assert len(set(found["samples"])) == 3
    seeds = [image["seed"] for image in together.by_id()["samples"]["outputs"]]
    assert seeds[0] == 0
    assert len(set(seeds)) == 3


def test_a_sample_can_be_made_again_from_its_own_seed(
    together: RunOutput, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    third = together.by_id()["samples"]["outputs"][2]
    again = run_rows([row("again", "text_to_image", third["seed"], prompt="a boat")], tmp_path, tiny_checkpoint)
    assert digests(again)["again"] == [third["sha256"]]


def test_a_negative_prompt_changes_the_image(together: RunOutput) -> None:
    assert digests(together)["not a dog"] != digests(together)["first alone"]


def test_style_transfer_has_the_size_of_the_style_image(together: RunOutput) -> None:
    done = together.by_id()
    assert done["style"]["width"] > done["style"]["height"]
    assert done["styles"]["width"] < done["styles"]["height"]


def test_views_have_prompts_of_their_own(together: RunOutput) -> None:
    done = together.by_id()
    assert [image["prompt"] for image in done["views"]["outputs"]] == [
        f"Generate the {view} view based on the provided front view." for view in ("left", "right", "back")
    ]
    assert done["one view"]["prompt"] == "Generate the top view based on the provided front view."


def test_every_turn_continues_from_the_one_before(together: RunOutput) -> None:
    found = digests(together)
    assert found["all turns"][2:] == found["last turn"]
    assert found["all turns"][:1] == found["one turn"] == found["first edit"]
    assert together.by_id()["last turn"]["prompt"] == "a hat\nno hat\na dog"


def test_painting_keeps_what_it_must_in_every_sample(together: RunOutput) -> None:
    before = np.asarray(picture(2, (48, 48)))
    for image in together.by_id()["painted"]["outputs"]:
        with Image.open(Path(together.store.uri) / image["output"]) as opened:
            after = np.asarray(opened)
        assert np.array_equal(after[:16], before[:16])


def test_neither_order_nor_batch_changes_a_series(together: RunOutput, tiny_checkpoint: Path, tmp_path: Path) -> None:
    back = run_rows(ROWS[::-1], tmp_path, tiny_checkpoint, max_rows_in_flight=2, segment_rows=3)
    assert digests(back) == digests(together)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "exact"])
def test_every_preset_makes_every_series(
    preset: str, together: RunOutput, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    chosen = [each | {"preset": preset} for each in ROWS if each["id"] in ("samples", "styles", "views", "all turns")]
    assert {row_id: len(images) for row_id, images in digests(run_rows(chosen, tmp_path, tiny_checkpoint)).items()} == {
        "samples": 3,
        "styles": 2,
        "views": 3,
        "all turns": 3,
    }


def test_a_wrong_prompt_of_a_later_turn_fails_its_row_alone(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rows = [row("wrong", "multiturn_edit", prompts=["a hat", "an <IMAGE>"]), ROWS[-1]]
    output = run_rows(rows, tmp_path, tiny_checkpoint)
    failure = output.failed_by_id()["wrong"]
    assert (failure["stage"], "must not contain '<IMAGE>'" in failure["message"]) == ("prompt", True)
    assert list(output.by_id()) == ["first edit"]


IMAGE = {"image": b"x"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"task": "text_to_image", "prompt": "a", "num_samples": 0}, "num_samples must be from 1 to 64, got 0"),
        ({"task": "text_to_image", "prompt": "a", "num_samples": 65}, "num_samples must be from 1 to 64, got 65"),
        ({"task": "text_to_image", "prompt": "a", "num_samples": [2]}, "num_samples must be one whole number or null"),
        (
            {"task": "text_to_image", "prompt": "a", "negative_prompt": " "},
            "negative_prompt must not be empty, got ' '",
        ),
        (
            {"task": "text_to_image", "prompt": "a", "negative_prompt": "b", "cfg_scale": 0.0},
            "negative_prompt has no effect without guidance, got 'b' and cfg_scale 0: give a cfg_scale",
        ),
        ({"task": "vqa", "prompt": "a", "num_samples": 2, **IMAGE}, "num_samples is not used by task 'vqa', got 2"),
        ({"task": "style_transfer", **IMAGE}, "style_image is null, task 'style_transfer' needs one: give a URI"),
        ({"task": "style_transfer", "style_image": b"", **IMAGE}, "style_image must not be empty, got 0 bytes"),
        ({"task": "edit", "prompt": "a", "style_image": b"x", **IMAGE}, "style_image is not used by task 'edit'"),
        ({"task": "multiturn_edit", **IMAGE}, "prompts is null, task 'multiturn_edit' needs it: give a list of"),
        ({"task": "multiturn_edit", "prompts": "a", **IMAGE}, "prompts must be a list of texts, got 'a': give [text"),
        ({"task": "multiturn_edit", "prompts": [], **IMAGE}, "prompts must be a list of texts, got []"),
        ({"task": "multiturn_edit", "prompts": ["a", " "], **IMAGE}, "prompts[1] must not be empty, got ' '"),
        ({"task": "multiturn_edit", "prompts": ["a", None], **IMAGE}, "prompts[1] must be text, got None: leave it"),
        ({"task": "multiturn_edit", "prompts": ["a"] * 65, **IMAGE}, "prompts must be at most 64, got 65: split"),
        ({"task": "multiturn_edit", "prompts": ["a"], "prompt": "b", **IMAGE}, "prompt is not used by task 'multiturn"),
        (
            {"task": "multiturn_edit", "prompts": ["a"], "keep_images": "best", **IMAGE},
            "keep_images must be 'last' or 'all' here, got 'b",
        ),
        (
            {"task": "multi_view", "view_names": ["a\nb"], **IMAGE},
            "view_names must hold words without line breaks, got 'a\\nb'",
        ),
        ({"task": "multi_view", "view_names": "left", **IMAGE}, "view_names must be a list of texts, got 'left'"),
        ({"task": "multi_view"}, "image is null, task 'multi_view' needs one: give a URI or bytes"),
    ],
)
def test_bad_input_is_refused_with_column_value_and_fix(record: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestRowError) as caught:
        parse_row(record, 0, RowDefaults())
    assert str(caught.value).startswith(message)
