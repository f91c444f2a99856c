import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimoo_core.errors import ConfigError
from dimoo_core.settings import ImageSettings, StepCacheConfig, TextSettings
from manifests.columns import COLUMNS
from manifests.errors import ManifestRowError
from manifests.row.content_id import content_id
from manifests.row.images import ImageSource
from manifests.row.parse import MAX_SEED, Row, parse_row
from manifests.row.settings import RowDefaults, text_settings
from manifests.tasks import TASKS

DRAW = {"task": "text_to_image", "prompt": "a boat"}
CAPTION = {"task": "caption", "image": "a.png"}
NO_DEFAULTS = RowDefaults()


def refusal(record: dict[str, Any], defaults: RowDefaults = NO_DEFAULTS) -> str:
    with pytest.raises(ManifestRowError) as caught:
        parse_row(record, 0, defaults)
    message = str(caught.value)
    assert "\n" not in message
    return message


def image_settings_of(record: dict[str, Any], defaults: RowDefaults = NO_DEFAULTS) -> ImageSettings:
    settings = parse_row(record, 0, defaults).settings
    assert isinstance(settings, ImageSettings)
    return settings


def test_a_row_is_complete_with_the_defaults_of_the_job() -> None:
    defaults = RowDefaults(task="text_to_image", prompt="a boat", text_to_image=ImageSettings(width_px=512))
    row = parse_row({"prompt": None, "height": 256, "other": "ignored"}, 7, defaults)
    assert row == Row(
        index=7,
        id=content_id({"height": 256}),
        task="text_to_image",
        prompt="a boat",
        image=None,
        settings=ImageSettings(width_px=512, height_px=256),
        seed=None,
    )


def test_the_preset_of_the_row_wins_over_that_of_the_job_and_over_no_setting_that_the_job_makes() -> None:
    cached, own = StepCacheConfig(), StepCacheConfig(refresh_interval=2)
    job = RowDefaults(preset="reference-cache")
    assert image_settings_of(DRAW, job).step_cache == cached
    assert image_settings_of({**DRAW, "preset": "exact"}, job).step_cache is None
    assert image_settings_of({**DRAW, "preset": "reference-cache", "steps": 8}).num_steps == 8
    insisting = RowDefaults(explicit_text_to_image=("step_cache",), text_to_image=ImageSettings(step_cache=own))
    assert image_settings_of({**DRAW, "preset": "reference-cache"}, insisting).step_cache == own
    assert parse_row({**CAPTION, "preset": "reference-cache"}, 0, NO_DEFAULTS).preset == "reference-cache"


def test_what_the_job_sets_for_drawing_leaves_the_presets_of_edits_alone() -> None:
    own = StepCacheConfig(refresh_interval=2)
    edit = {"task": "edit", "prompt": "a hat", "image": b"x", "preset": "reference-cache"}
    paint = {**edit, "task": "inpaint", "mask_ratio": [0.5, 0.5]}
    drawing = RowDefaults(explicit_text_to_image=("step_cache",), text_to_image=ImageSettings(step_cache=own))
    assert image_settings_of(edit, drawing).step_cache == StepCacheConfig()
    assert image_settings_of(paint, drawing).step_cache == own
    editing = RowDefaults(explicit_image_to_image=("step_cache",), image_to_image=ImageSettings(step_cache=own))
    assert image_settings_of(edit, editing).step_cache == own
    assert image_settings_of({**DRAW, "preset": "reference-cache"}, editing).step_cache == StepCacheConfig()


def test_a_preset_that_is_unknown_or_no_text_is_refused_with_the_nearest() -> None:
    assert refusal({**DRAW, "preset": "exat"}).endswith("got 'exat' (did you mean 'exact'?)")
    assert refusal({**DRAW, "preset": 3}) == "preset must be text, got 3"


def test_what_the_row_says_wins_over_the_job() -> None:
    defaults = RowDefaults(task="vqa", prompt="why?")
    row = parse_row({**CAPTION, "id": "x/1", "prompt": "how?", "seed": 5, "temperature": 1}, 0, defaults)
    assert (row.id, row.task, row.prompt, row.seed, row.settings.temperature) == ("x/1", "caption", "how?", 5, 1.0)


def test_a_caption_has_a_prompt_of_its_own_below_that_of_row_and_job() -> None:
    assert parse_row(CAPTION, 0, NO_DEFAULTS).prompt == "Describe this image in detail."
    assert parse_row(CAPTION, 0, RowDefaults(prompt="Name it.")).prompt == "Name it."
    assert parse_row({**CAPTION, "prompt": "Count."}, 0, RowDefaults(prompt="Name it.")).prompt == "Count."


@pytest.mark.parametrize("column", ["task", "prompt", "id", "image"])
@pytest.mark.parametrize("value", ["", " \n\t", 5, True, ["a"], 1.5])
def test_text_that_is_empty_or_no_text_is_refused_even_where_a_default_exists(column: str, value: object) -> None:
    defaults = RowDefaults(task="caption", prompt="Describe.")
    message = refusal({**CAPTION, column: value}, defaults)
    assert message.startswith(f"{column} must ")
    assert repr(value) in message


def test_a_task_that_is_null_or_unknown_is_refused_with_the_list_and_the_nearest() -> None:
    assert refusal({"prompt": "a"}).endswith(f"give one of {', '.join(TASKS)}")
    assert "(did you mean 'text_to_image'?)" in refusal({**DRAW, "task": "text-to-image"})
    assert "(did you mean 'caption'?)" in refusal({**CAPTION, "task": "captioning"})
    assert refusal({**DRAW, "task": "zzz"}).endswith(f"{', '.join(TASKS)}, got 'zzz'")


def test_what_a_task_needs_must_be_there_and_what_it_does_not_take_must_not() -> None:
    assert refusal({"task": "text_to_image"}).startswith("prompt is null")
    assert refusal({"task": "vqa", "image": "a.png"}).startswith("prompt is null")
    assert refusal({"task": "vqa", "prompt": "why?"}).startswith("image is null")
    assert refusal({**DRAW, "image": "a.png"}) == (
        "image is not used by task 'text_to_image', got 'a.png': leave it null"
    )
    assert refusal({**CAPTION, "width": 512}) == "width is not used by task 'caption', got 512: leave it null"
    assert refusal({**DRAW, "max_tokens": 8}).startswith("max_tokens is not used by task 'text_to_image'")
    assert refusal({**DRAW, "block_length": 8}).startswith("block_length is not used")


@pytest.mark.parametrize("column", ["width", "height", "steps", "seed"])
@pytest.mark.parametrize("value", [True, [512], "512", 512.5, math.nan, math.inf, b"512"])
def test_a_whole_number_is_neither_a_boolean_nor_a_list_nor_text_nor_a_fraction(column: str, value: object) -> None:
    assert refusal({**DRAW, column: value}) == f"{column} must be one whole number or null, got {value!r}"


@pytest.mark.parametrize("column", ["cfg_scale", "temperature"])
@pytest.mark.parametrize("value", [False, [1.0], "1.0", math.nan, -math.inf])
def test_a_number_is_finite_and_neither_a_boolean_nor_a_list_nor_text(column: str, value: object) -> None:
    assert refusal({**DRAW, column: value}) == f"{column} must be one finite number or null, got {value!r}"


@pytest.mark.parametrize(
    ("column", "value", "got"),
    [
        ("width", 1000, "1000"),
        ("width", 0, "0"),
        ("height", -16, "-16"),
        ("height", 4096, "4096"),
        ("steps", 0, "0"),
        ("cfg_scale", -1, "-1.0"),
        ("temperature", -0.1, "-0.1"),
    ],
)
def test_a_number_out_of_range_names_column_and_value(column: str, value: float, got: str) -> None:
    message = refusal({**DRAW, column: value})
    assert message.startswith(f"{column} must be ")
    assert message.endswith(f", got {got}")


def test_whole_floats_are_integers_and_integers_are_floats() -> None:
    settings = image_settings_of({**DRAW, "width": 512.0, "steps": np.float64(8), "cfg_scale": 3})
    assert (settings.width_px, settings.num_steps, settings.cfg_scale) == (512, 8, 3.0)
    assert [type(value) for value in (settings.width_px, settings.num_steps, settings.cfg_scale)] == [int, int, float]


def test_a_seed_has_63_bits_and_is_exact() -> None:
    assert parse_row({**DRAW, "seed": MAX_SEED}, 0, NO_DEFAULTS).seed == MAX_SEED
    assert parse_row({**DRAW, "seed": 2.0**53}, 0, NO_DEFAULTS).seed == 2**53
    assert refusal({**DRAW, "seed": MAX_SEED + 1}) == "seed must be from 0 to 2^63-1, got 9223372036854775808"
    assert refusal({**DRAW, "seed": -1}) == "seed must be from 0 to 2^63-1, got -1"
    assert "store the column as integers" in refusal({**DRAW, "seed": 2.0**54})


def test_an_id_is_short_and_has_no_control_characters() -> None:
    assert parse_row({**DRAW, "id": "ü/ 木" + "x" * 508}, 0, NO_DEFAULTS).id.startswith("ü/ 木")
    assert refusal({**DRAW, "id": "x" * 513}) == "id must have at most 512 characters, got 513"
    for character in "\n\r\t\0\x7f\x85\u2028":
        assert refusal({**DRAW, "id": f"a{character}b"}).startswith("id must not hold line breaks")


def test_long_values_are_shortened_in_messages() -> None:
    assert len(refusal({**DRAW, "prompt": [("secret " * 100)]})) < 120


def test_an_image_is_a_uri_or_bytes_or_the_struct_of_both() -> None:
    def image_of(cell: object) -> ImageSource | None:
        return parse_row({**CAPTION, "image": cell}, 0, NO_DEFAULTS).image

    assert image_of("s3://b/a.png") == ImageSource(uri="s3://b/a.png", name="s3://b/a.png")
    assert image_of(b"\x89PNG") == ImageSource(data=b"\x89PNG", name="embedded image")
    assert image_of({"bytes": b"\x89PNG", "path": "a.png"}) == ImageSource(data=b"\x89PNG", name="a.png")
    assert image_of({"bytes": None, "path": "a.png"}) == ImageSource(uri="a.png", name="a.png")
    for nothing in (None, {"bytes": None, "path": None}):
        assert refusal({**CAPTION, "image": nothing}).startswith("image is null")
    for nothing in (b"", {"bytes": b"", "path": "a.png"}, ""):
        assert refusal({**CAPTION, "image": nothing}).startswith("image must not be empty")
    assert "control characters" in refusal({**CAPTION, "image": "a\nb.png"})


def test_an_image_source_has_exactly_one_source_and_shows_no_secret() -> None:
    for both_or_neither in ({}, {"uri": "a", "data": b"a"}):
        with pytest.raises(ValueError, match="either a uri or data"):
            ImageSource(name="a", **both_or_neither)  # type: ignore[arg-type]
    signed = "https://user:password@host/a.png?X-Amz-Signature=secret"
    source = parse_row({**CAPTION, "image": signed}, 0, NO_DEFAULTS).image
    assert source is not None
    assert source.uri == signed
    assert source.name == "https://host/a.png"
    assert "secret" not in repr(source)
    assert "password" not in repr(source)


@given(max_tokens=st.integers(1, 5000), default_block=st.integers(1, 64), num_blocks=st.integers(1, 16))
def test_max_tokens_alone_gets_the_longest_block_that_fits(
    max_tokens: int, default_block: int, num_blocks: int
) -> None:
    default = TextSettings(max_tokens=default_block * num_blocks, block_length=default_block)
    settings = text_settings({"max_tokens": max_tokens}, default)
    divisors = [block for block in range(1, default_block + 1) if max_tokens % block == 0]
    assert (settings.max_tokens, settings.block_length) == (max_tokens, max(divisors))


@pytest.mark.parametrize(
    ("given_columns", "expected_steps"),
    [
        ({}, 128),
        ({"temperature": 0.5}, 128),
        ({"max_tokens": 512}, 128),
        ({"max_tokens": 768}, None),  # 128 steps are not a whole number for each of 3 blocks
        ({"max_tokens": 64}, None),  # more steps than tokens
        ({"block_length": 128}, 128),
        ({"max_tokens": 768, "steps": 96}, 96),
    ],
)
def test_steps_of_the_job_are_kept_where_they_still_fit(
    given_columns: dict[str, Any], expected_steps: int | None
) -> None:
    default = TextSettings(max_tokens=1024, block_length=256, num_steps=128)
    assert text_settings(given_columns, default).num_steps == expected_steps


def test_wrong_lengths_of_text_name_their_column() -> None:
    assert refusal({**CAPTION, "max_tokens": 0}) == "max_tokens must be at least 1, got 0"
    assert refusal({**CAPTION, "block_length": 300}) == "block_length must be a divisor of max_tokens (1024), got 300"
    assert refusal({**CAPTION, "block_length": 0}).startswith("block_length must be a divisor")
    assert refusal({**CAPTION, "steps": 7}) == "steps must be a multiple of the number of blocks (4), got 7"


def test_defaults_of_a_job_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"task must be one of .*did you mean 'caption'"):
        RowDefaults(task="captions")
    with pytest.raises(ConfigError, match="prompt must not be empty"):
        RowDefaults(prompt=" ")


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.just(10**400),
    st.text(alphabet="ab \n\0\ud800木", max_size=3),
    st.sampled_from([16, 512.0, "text_to_image", "vqa", "caption", [1], {"bytes": b"", "path": None}]),
    st.binary(max_size=3),
)


@given(record=st.dictionaries(st.sampled_from(list(COLUMNS)), CELLS))
def test_a_record_becomes_a_row_or_a_row_error_and_nothing_else(record: dict[str, Any]) -> None:
    content_id(record)
    try:
        row = parse_row(record, 3, RowDefaults(task="caption", prompt="why?"))
    except ManifestRowError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert row.index == 3
        assert row.id
