"""The reference's names for tasks ask for what its scripts compute, and contradictions are told."""

from typing import Any

import pyarrow as pa
import pytest

from dimoo_core.errors import ConfigError
from dimoo_core.request.templates import chat, dense_prediction, edit_type_template
from manifests.errors import ManifestError, ManifestRowError
from manifests.row.parse import Row, parse_row
from manifests.row.settings import RowDefaults
from manifests.row.task_name import REFERENCE_TASKS, find_task, nearest_task, task_named
from manifests.schema import check_schema
from manifests.tasks import TASKS

DENSE = (
    "<system>Perform dense prediction on the given images.</system><user>Generate a {} according to the image.</user>"
)
MAPS = {
    "canny": "canny edge map",
    "hed": "hed edge map",
    "normal": "normal map",
    "sam2mask": "sam2 mask",
    "depth": "depth map",
    "openpose": "pose estimation map",
}
STYLE = (
    "<system>Transform the current image into the style of the provided image.</system>"
    "<user>Transform the current image into the style of the provided image.</user>"
)
VIEW = (
    "<system>Generate a view-image based on the given image.</system>"
    "<user>Generate the {} view based on the provided front view.</user>"
)
CONTROL = "Generate an image according to the text prompt and the given control image."
EDIT = "Generate an image applying the following editing instruction based on the original image."
OF_SCRIPT = {
    **{f"{family}_dense": DENSE.format(what) for family, what in MAPS.items()},
    **{f"dense_{family}": DENSE.format("dense map") for family in MAPS},
    "image_ref_transfer": STYLE,
    "ref_transfer": STYLE,
    "multi_view_left": VIEW.format("left"),
    "multi_view_right": VIEW.format("right"),
    "multi_view_back": VIEW.format("back"),
    "multi_view_top": VIEW.format("top"),
    "multi_view_left_top": VIEW.format("top"),
}
"""Prompts of the reference's script for names with words of its own."""

WITH_WORDS = {
    "sam2mask_pred": "Generate an image according to the prompt and image.",
    "canny_pred": "Generate an image according to the prompt and image.",
    "canny_control": CONTROL,
    "hed_control": CONTROL,
    "depth_control": CONTROL,
    "openpose_control": CONTROL,
    "subject_driven": "Generate an image according to the text prompt and the given object image.",
    "edit_add": EDIT,
    "edit_remove": EDIT,
    "edit_replace": EDIT,
    "edit_background": EDIT,
    "edit_text_transfer": EDIT,
}
"""System prompts of the reference's script for names that go with the user's words."""


def parsed(name: str, defaults: RowDefaults | None = None, **columns: Any) -> Row:
    pictures = {"image": b"content"} | ({"style_image": b"style"} if "image_ref" in name else {})
    return parse_row({"task": name, **pictures, **columns}, 0, defaults or RowDefaults())


def refusal(name: str, **columns: Any) -> str:
    with pytest.raises(ManifestRowError) as caught:
        parsed(name, **columns)
    return str(caught.value)


def asked(row: Row) -> str:
    return chat(task_named(row.task).system_for(row.prompt), row.prompt)


def test_every_name_of_the_reference_is_here() -> None:
    assert set(REFERENCE_TASKS) <= {*OF_SCRIPT, *WITH_WORDS}
    assert not set(REFERENCE_TASKS) & set(TASKS)
    assert {name for name in WITH_WORDS if name not in REFERENCE_TASKS} <= set(TASKS)


@pytest.mark.parametrize("name", OF_SCRIPT)
def test_a_name_with_words_of_its_own_ignores_those_of_row_and_job(name: str) -> None:
    of_job = RowDefaults(prompt="a blue hat")
    rows = [parsed(name), parsed(name, prompt="a red hat"), parsed(name, of_job), parsed(name, of_job, prompt="a hat")]
    assert [asked(row) for row in rows] == [OF_SCRIPT[name]] * 4
    images = [b"content", b"style"] if name == "image_ref_transfer" else [b"content"]
    assert [source.data for source in rows[0].inputs] == images
    assert rows[0].task == name


@pytest.mark.parametrize("name", WITH_WORDS)
def test_the_other_names_go_with_the_users_words(name: str) -> None:
    row = parsed(name, prompt="a red hat")
    assert asked(row) == chat(WITH_WORDS[name], "a red hat")
    assert [source.data for source in row.inputs] == [b"content"]


@pytest.mark.parametrize("family", MAPS)
def test_families_have_the_references_names(family: str) -> None:
    assert dense_prediction(family).words == f"Generate a {MAPS[family]} according to the image."
    assert edit_type_template(f"{family}_dense") == dense_prediction(family)


def test_a_family_that_the_reference_does_not_know_is_any_dense_map() -> None:
    assert edit_type_template("seg_dense").words == "Generate a dense map according to the image."
    assert edit_type_template("dense").words == "Generate a dense map according to the image."


def test_what_names_of_the_product_ask_for_is_as_it_was() -> None:
    row = parsed("seg_pred")
    assert (row.task, row.prompt) == ("seg_pred", "Generate a sam2 mask according to the image.")
    assert asked(row) == DENSE.format("sam2 mask")
    assert list(TASKS)[15:21] == ["canny_pred", "hed_pred", "depth_pred", "openpose_pred", "normal_pred", "seg_pred"]
    assert parsed("style_transfer", style_image=b"style", prompt="as a woodcut").prompt == "as a woodcut"
    views = parsed("multi_view")
    assert (len(views.series.prompts), views.task) == (3, "multi_view")
    assert (
        refusal("multi_view", prompt="a hat") == "prompt is not used by task 'multi_view', got 'a hat': leave it null"
    )


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("ref_transfer", {"style_image": b"s"}, "style_image is not used by task 'ref_transfer'"),
        ("canny_dense", {"style_image": b"s"}, "style_image is not used by task 'canny_dense'"),
        ("image_ref_transfer", {"style_image": None}, "style_image is null, task 'image_ref_transfer' needs one"),
        ("multi_view_left", {"view_names": ["a"]}, "view_names is not used by task 'multi_view_left', got ['a']"),
        ("multi_view_top", {"view_names": ["top"]}, "view_names is not used by task 'multi_view_top', got ['top']"),
        ("sam2mask_dense", {"width": 64}, "width is not used by task 'sam2mask_dense', got 64"),
        ("depth_dense", {"image": None}, "image is null, task 'depth_dense' needs one"),
        ("depth_dense", {"prompt": 3}, "prompt must be text, got 3"),
    ],
)
def test_columns_that_contradict_a_name_are_told(name: str, columns: dict[str, Any], message: str) -> None:
    assert refusal(name, **columns).startswith(message)


@pytest.mark.parametrize("slip", [str.upper, lambda name: name.replace("_", "-"), lambda name: name[:2] + name[3:]])
@pytest.mark.parametrize("name", [*TASKS, *REFERENCE_TASKS])
def test_of_a_slip_the_nearest_name_is_suggested(name: str, slip: Any) -> None:
    if find_task(slip(name)) is None:
        assert nearest_task(slip(name)) == name
        assert refusal(slip(name), image=b"x").endswith(f" (did you mean {name!r}?)")


@pytest.mark.parametrize(
    "name", ["something_else", "multi_view_", "multi_view_ left", "multi_view_a\nb", "multi_view_edit", "a_multi_view"]
)
def test_a_name_that_means_nothing_or_something_else_there_is_refused(name: str) -> None:
    assert find_task(name) is None
    assert refusal(name).startswith("task must be one of ")


def test_a_name_of_the_reference_may_be_the_jobs_task() -> None:
    row = parse_row({"image": b"x", "prompt": "a hat"}, 0, RowDefaults(task="sam2mask_dense"))
    assert (row.task, asked(row)) == ("sam2mask_dense", OF_SCRIPT["sam2mask_dense"])
    with pytest.raises(ConfigError, match=r"got 'sam2mask_dens' \(did you mean 'sam2mask_dense'\?\)"):
        RowDefaults(task="sam2mask_dens")


def test_columns_are_checked_for_the_jobs_task_of_the_reference() -> None:
    image, view = (
        pa.schema({"image": pa.string()}),
        pa.schema({"image": pa.string(), "view_names": pa.list_(pa.string())}),
    )
    check_schema(image, defaults=RowDefaults(task="multi_view_left"))
    with pytest.raises(ManifestError, match="column 'view_names' is not used by task 'multi_view_left'"):
        check_schema(view, defaults=RowDefaults(task="multi_view_left"))
    with pytest.raises(ManifestError, match="no column 'style_image', task 'image_ref_transfer' needs it"):
        check_schema(image, defaults=RowDefaults(task="image_ref_transfer"))


def test_columns_named_as_the_scripts_options_pass_and_are_named_where_ours_are_missed() -> None:
    found = pa.schema({"image": pa.string(), "edit_type": pa.string(), "ref_image_path": pa.string()})
    check_schema(found, defaults=RowDefaults(task="canny_dense"))
    with pytest.raises(ManifestError, match=r"no column 'task' .* \(nearest column found: 'edit_type'\)"):
        check_schema(found, defaults=RowDefaults())
    with pytest.raises(ManifestError, match=r"'style_image'.* \(nearest column found: 'ref_image_path'\)"):
        check_schema(found, defaults=RowDefaults(task="image_ref_transfer"))
