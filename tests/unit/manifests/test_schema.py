import pickle
import subprocess
import sys

import pyarrow as pa
import pytest

from manifests.errors import ManifestError, ManifestRowError
from manifests.row.settings import RowDefaults
from manifests.schema import check_schema, check_schemas, passthrough_schema

TEXT_TO_IMAGE = RowDefaults(task="text_to_image")
CAPTION = RowDefaults(task="caption")


def problems(columns: dict[str, pa.DataType], defaults: RowDefaults, passthrough: tuple[str, ...] = ()) -> str:
    with pytest.raises(ManifestError) as caught:
        check_schema(pa.schema(columns), defaults=defaults, passthrough=passthrough)
    return str(caught.value)


@pytest.mark.parametrize(
    "image", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.binary_view(), pa.string_view()]
)
@pytest.mark.parametrize(
    "text", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_layout_of_text_and_bytes_is_accepted(text: pa.DataType, image: pa.DataType) -> None:
    check_schema(pa.schema({"id": text, "task": text, "prompt": text, "image": image}), defaults=RowDefaults())


@pytest.mark.parametrize(
    "image",
    [
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        pa.struct({"path": pa.large_string(), "bytes": pa.large_binary()}),
        pa.struct({"bytes": pa.binary(), "path": pa.null()}),
    ],
)
def test_the_image_struct_of_hugging_face_is_accepted(image: pa.DataType) -> None:
    check_schema(pa.schema({"image": image}), defaults=CAPTION)


@pytest.mark.parametrize("images", [pa.list_(pa.string()), pa.large_list(pa.binary()), pa.list_(pa.string_view(), 2)])
def test_several_images_do_in_place_of_one_where_a_task_takes_them(images: pa.DataType) -> None:
    check_schema(pa.schema({"images": images}), defaults=CAPTION)
    assert "no column 'image', task 'caption' needs it" in problems({"note": pa.string()}, CAPTION)
    assert "column 'images' is not used by task 'tokenize'" in problems(
        {"images": images}, RowDefaults(task="tokenize")
    )


@pytest.mark.parametrize("number", [pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.float16()])
def test_every_width_of_number_is_accepted(number: pa.DataType) -> None:
    names = ("width", "height", "steps", "cfg_scale", "temperature", "seed")
    check_schema(pa.schema({"prompt": pa.string()} | dict.fromkeys(names, number)), defaults=TEXT_TO_IMAGE)


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        ("width", pa.string()),
        ("width", pa.bool_()),
        ("seed", pa.list_(pa.int64())),
        ("cfg_scale", pa.decimal128(5, 2)),
        ("id", pa.int64()),
        ("prompt", pa.binary()),
        ("image", pa.struct({"bytes": pa.binary()})),
        ("image", pa.list_(pa.string())),
        ("images", pa.string()),
    ],
)
def test_a_wrong_type_names_column_type_and_what_is_accepted(column: str, dtype: pa.DataType) -> None:
    message = problems({"task": pa.string(), "prompt": pa.string()} | {column: dtype}, RowDefaults())
    assert f"column {column!r} has type {dtype}, accepted: " in message


def test_a_job_with_defaults_needs_no_task_and_no_prompt_column() -> None:
    check_schema(pa.schema({"seed": pa.int64()}), defaults=RowDefaults(task="text_to_image", prompt="a boat"))


def test_a_missing_task_is_refused_unless_the_job_sets_one() -> None:
    columns = {"prompt": pa.string()}
    assert "no column 'task' and the job sets no default task" in problems(columns, RowDefaults())
    check_schema(pa.schema(columns), defaults=TEXT_TO_IMAGE)


def test_a_missing_prompt_is_refused_where_no_task_can_do_without() -> None:
    wanted = "no column 'prompt' and the job sets no default prompt"
    assert wanted in problems({"seed": pa.int64()}, TEXT_TO_IMAGE)
    assert wanted in problems({"task": pa.string()}, RowDefaults())
    assert wanted in problems({"image": pa.string()}, RowDefaults(task="vqa"))
    check_schema(pa.schema({"task": pa.string(), "image": pa.string()}), defaults=RowDefaults())
    check_schema(pa.schema({"image": pa.string()}), defaults=CAPTION)


def test_a_missing_image_is_refused_where_the_only_task_needs_one() -> None:
    assert "no column 'image', task 'caption' needs it" in problems({"prompt": pa.string()}, CAPTION)


def test_a_column_of_arrow_type_null_counts_as_absent_but_is_allowed() -> None:
    assert "no column 'task'" in problems({"task": pa.null(), "prompt": pa.string()}, RowDefaults())
    check_schema(pa.schema({"prompt": pa.string(), "seed": pa.null(), "image": pa.null()}), defaults=TEXT_TO_IMAGE)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("promt", "prompt"),
        ("Prompt", "prompt"),
        ("widht", "width"),
        ("heigth", "height"),
        ("taks", "task"),
        ("seeds", "seed"),
        ("cfg-scale", "cfg_scale"),
        ("guidance_scale", "cfg_scale"),
        ("num_inference_steps", "steps"),
        ("max_new_tokens", "max_tokens"),
        ("image_url", "image"),
        ("ID", "id"),
    ],
)
def test_a_misspelt_column_is_refused_unless_it_is_listed_or_the_right_one_is_there(name: str, meant: str) -> None:
    defaults = RowDefaults(task="vqa", prompt="why?") if meant in ("image", "max_tokens") else RowDefaults()
    columns = {} if meant == "image" else {"image": pa.string()}
    columns |= {"task": pa.string()} if meant != "task" else {}
    message = problems({**columns, name: pa.string()}, defaults)
    assert f"column {name!r} looks like {meant!r}" in message
    assert "looks like" not in problems({**columns, name: pa.string(), "worker": pa.string()}, defaults, (name,))
    both = pa.schema({**columns, name: pa.string(), "task": pa.string(), meant: pa.null()})
    if meant != "task":
        check_schema(both, defaults=RowDefaults(prompt="why?"))


@pytest.mark.parametrize("name", ["uid", "image_id", "weight", "caption", "split", "url", "negative", "license"])
def test_ordinary_columns_of_datasets_pass_through(name: str) -> None:
    schema = pa.schema({"task": pa.string(), "prompt": pa.string(), name: pa.list_(pa.int8())})
    check_schema(schema, defaults=RowDefaults())
    assert passthrough_schema(schema).names == [name]


def test_an_image_url_beside_prompts_to_draw_passes_through() -> None:
    check_schema(pa.schema({"prompt": pa.string(), "image_url": pa.string()}), defaults=TEXT_TO_IMAGE)


def test_a_setting_that_the_only_task_does_not_take_is_refused_with_a_new_name() -> None:
    message = problems({"image": pa.string(), "width": pa.int32(), "height": pa.int32()}, CAPTION)
    assert "column 'width' is not used by task 'caption': rename it, for instance to 'source_width'" in message
    assert "column 'height' is not used" in message


def test_a_column_named_like_one_of_the_output_is_refused() -> None:
    message = problems({"prompt": pa.string(), "status": pa.string(), "sha256": pa.string()}, TEXT_TO_IMAGE)
    assert "column 'status' would collide with the output's own: rename it, for instance to 'source_status'" in message
    assert "column 'sha256' would collide" in message


def test_a_repeated_column_is_refused() -> None:
    schema = pa.schema([("prompt", pa.string()), ("prompt", pa.string())])
    with pytest.raises(ManifestError, match="column 'prompt' is there 2 times"):
        check_schema(schema, defaults=TEXT_TO_IMAGE)


def test_a_name_in_passthrough_must_be_a_column() -> None:
    assert "passthrough names 'spilt', no such column" in problems({"prompt": pa.string()}, TEXT_TO_IMAGE, ("spilt",))


def test_all_problems_and_all_columns_are_in_one_error_on_one_line() -> None:
    message = problems({"promt": pa.string(), "seed": pa.string(), "worker": pa.string()}, RowDefaults())
    for part in ("no column 'task'", "no column 'prompt'", "nearest column found: 'promt'", "column 'seed' has type"):
        assert part in message
    assert message.endswith("columns found: promt, seed, worker")
    assert "\n" not in message


def test_an_empty_schema_and_a_very_wide_one_are_reported_shortly() -> None:
    assert problems({}, RowDefaults()).endswith("columns found: none")
    assert problems({f"c{i}": pa.int8() for i in range(5000)}, RowDefaults()).endswith("c49 and 4950 more")


def test_the_image_passes_through_only_as_a_uri() -> None:
    assert passthrough_schema(pa.schema({"image": pa.string(), "seed": pa.int8()})).names == ["image"]
    assert passthrough_schema(pa.schema({"image": pa.binary(), "split": pa.string()})).names == ["split"]


def test_files_of_one_manifest_must_agree_on_the_columns_that_pass_through() -> None:
    first = pa.schema({"prompt": pa.string(), "split": pa.string(), "score": pa.float32()})
    same = pa.schema({"score": pa.float32(), "split": pa.string(), "prompt": pa.large_string(), "seed": pa.int8()})
    other = pa.schema({"prompt": pa.string(), "split": pa.string(), "score": pa.float64(), "extra": pa.int8()})
    agreed = check_schemas([("a", first), ("b", same)], defaults=TEXT_TO_IMAGE)
    assert agreed.names == ["split", "score"]
    with pytest.raises(ManifestError, match=r"^c: .* as in a, these differ: extra, score$"):
        check_schemas([("a", first), ("c", other)], defaults=TEXT_TO_IMAGE)
    assert check_schemas([], defaults=TEXT_TO_IMAGE).names == []


@pytest.mark.parametrize("kind", [ManifestError, ManifestRowError])
def test_errors_survive_pickling(kind: type[ManifestError]) -> None:
    error = pickle.loads(pickle.dumps(kind("width must be a multiple of 16")))
    assert type(error) is kind
    assert str(error) == "width must be a multiple of 16"


def test_importing_the_package_loads_neither_arrow_nor_torch() -> None:
    code = (
        "import sys, manifests; assert 'pyarrow' not in sys.modules\n"
        "import manifests.schema, manifests.files.reader, manifests.files.duplicates\n"
        "assert not {'torch', 'ray', 'boto3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_names_that_messages_advise_are_accepted() -> None:
    columns = {"image": pa.string(), **{f"source_{name}": pa.int64() for name in ("width", "temperature", "status")}}
    check_schema(pa.schema(columns), defaults=CAPTION)
