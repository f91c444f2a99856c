"""A row's settings win over the job's, the job's over the checkpoint's, the checkpoint's over the product's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from dimoo_core.errors import ConfigError, WeightsError
from dimoo_core.settings import ImageSettings, TextSettings
from jobs.spec.resolve import with_generation_defaults
from jobs.spec.spec import JobSpec, load_spec
from shapes.generation_defaults import GENERATION

SMALL = {
    "text_to_image": {"width": 64, "height": 48, "steps": 8, "cfg_scale": 0},
    "understanding": {"max_tokens": 32, "block_length": 16, "steps": 8, "resolution": "native"},
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A checkpoint directory with defaults of its own, beside keys of other libraries."""
    (tmp_path / "generation_config.json").write_text(json.dumps({"transformers_version": "4.46.2", **SMALL}))
    return tmp_path


def resolved(directory: Path, *overrides: str) -> JobSpec:
    return with_generation_defaults(load_spec(None, {"manifest": "m.parquet"}, overrides), directory)


def test_a_checkpoint_that_says_nothing_leaves_the_products_defaults(tmp_path: Path) -> None:
    spec = resolved(tmp_path)
    assert spec.row_defaults().text_to_image == ImageSettings()
    assert spec.row_defaults().understanding == TextSettings()
    (tmp_path / "generation_config.json").write_text('{"transformers_version": "4.46.2"}')
    assert resolved(tmp_path) == spec


def test_the_checkpoints_defaults_hold_where_the_job_says_nothing(directory: Path) -> None:
    spec = resolved(directory)
    defaults = spec.row_defaults()
    assert defaults.text_to_image == ImageSettings(width_px=64, height_px=48, num_steps=8, cfg_scale=0.0)
    assert defaults.understanding == TextSettings(max_tokens=32, block_length=16, num_steps=8)
    assert spec.understanding.resolution == "native"


def test_the_embedded_models_package_says_how_its_boards_are_edited(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(GENERATION))
    spec = resolved(tmp_path)
    defaults = spec.row_defaults()
    drawn, edited = defaults.text_to_image, defaults.image_to_image
    assert spec.image_to_image.resolution == "native"
    assert (edited.num_steps, edited.cfg_scale) == (drawn.num_steps, drawn.cfg_scale)  # examples are judged with these
    assert (edited.cfg_image_scale, edited.temperature) == (0.0, drawn.temperature)


def test_the_job_wins_even_with_the_products_own_default(directory: Path) -> None:
    spec = resolved(directory, "text_to_image.width=1024", "understanding.resolution=512", "seed=3")
    assert (spec.text_to_image.width, spec.text_to_image.height, spec.text_to_image.steps) == (1024, 48, 8)
    assert (spec.understanding.resolution, spec.understanding.max_tokens, spec.seed) == (512, 32, 3)


@pytest.mark.parametrize(
    ("overrides", "lengths"),
    [
        (("max_tokens=64",), (64, 16, 8)),  # four blocks of two steps
        (("max_tokens=48",), (48, 16, None)),  # eight steps are none for three blocks
        (("max_tokens=20",), (20, 10, 8)),  # the longest block that divides 20
        (("block_length=32",), (32, 32, 8)),
        (("max_tokens=8", "block_length=4"), (8, 4, 8)),
        (("max_tokens=48", "steps=6"), (48, 16, 6)),
        (("steps=4",), (32, 16, 4)),
    ],
)
def test_lengths_that_the_job_changes_bring_the_others_along(
    overrides: tuple[str, ...], lengths: tuple[int, int, int | None], directory: Path
) -> None:
    spec = resolved(directory, *(f"understanding.{override}" for override in overrides)).understanding
    assert (spec.max_tokens, spec.block_length, spec.steps) == lengths


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("text_to_image.width=100", "text_to_image.width must be a multiple of 16"),
        ("understanding.max_tokens=0", "understanding.max_tokens must be at least 1, got 0"),
        ("understanding.block_length=5", "understanding.block_length must be a divisor of max_tokens (32), got 5"),
        ("understanding.steps=3", "understanding.steps must be a multiple of the number of blocks (2), got 3"),
    ],
)
def test_values_that_do_not_go_with_the_checkpoints_are_refused(override: str, message: str, directory: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(directory, override)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must hold a JSON object, got list"),
        ({"text_to_image": {"widht": 64}}, "unknown key 'text_to_image.widht', did you mean 'width'"),
        ({"text_to_image": 64}, "text_to_image must be an object"),
        ({"text_to_image": {"width": 65}}, "text_to_image.width must be a multiple of 16"),
        ({"understanding": {"steps": "many"}}, "understanding.steps must be a valid integer"),
        ({"understanding": {"max_tokens": 8}}, "understanding.block_length must be a divisor of max_tokens (8)"),
    ],
)
def test_a_wrong_file_is_told_with_its_path_and_key(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "generation_config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(WeightsError) as caught:
        resolved(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_the_embedded_model_draws_small_images() -> None:
    spec = resolved(find_checkpoint(BUILTIN).directory)
    assert (spec.text_to_image.width, spec.text_to_image.height, spec.text_to_image.steps) == (64, 64, 16)
    assert spec.understanding.resolution == "native"


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("text_to_image", {"cfg_scale": 1e38}, "text_to_image.cfg_scale must be at most 1e+15, got 1e+38"),
        ("image_to_image", {"temperature": 1e-40}, "image_to_image.temperature must be 0 or from 1e-15 to 1e+15, got"),
        ("understanding", {"temperature": 1e9}, "understanding.temperature must be 0 or from 1e-15 to 16, got"),
    ],
)
def test_a_checkpoint_cannot_ask_for_what_float32_does_not_carry(
    section: str, values: dict[str, float], words: str, tmp_path: Path
) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({section: values}))
    with pytest.raises(WeightsError, match=re.escape(words)):
        resolved(tmp_path)
