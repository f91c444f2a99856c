"""Photographs come to sizes that the model knows, without being stretched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dimoo_core.codec.resize import (
    best_crop_size,
    centered,
    crop_sizes,
    crop_sizes_for,
    fit,
    plan_fit,
    random_offset,
)
from dimoo_core.errors import ConfigError

sides = st.integers(1, 6000)


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def test_crop_sizes_have_about_the_same_area_and_bounded_shapes() -> None:
    sizes = crop_sizes(256)
    assert len(sizes) == len(set(sizes)) == 49
    assert (512, 512) in sizes
    for width, height in sizes:
        assert width % 32 == height % 32 == 0
        assert 0.75 * 512**2 < width * height <= 512**2
        assert max(width, height) <= 4 * min(width, height)


@pytest.mark.parametrize(
    ("size", "crop"),
    [
        ((300, 200), (608, 416)),  # small: as for 512
        ((640, 480), (640, 480)),  # in between: kept
        ((637, 489), (624, 480)),  # kept, but for the rest beyond whole tokens
        ((512, 512), (512, 512)),
        ((1024, 1024), (1024, 1024)),
        ((1920, 1080), (1344, 768)),  # large: as for 1024
    ],
)
def test_the_adaptive_rule_keeps_what_lies_between(size: tuple[int, int], crop: tuple[int, int]) -> None:
    assert best_crop_size(size, crop_sizes_for(size, "adaptive")) == crop


@pytest.mark.parametrize(
    ("size", "crop"),
    [
        ((48, 64), (48, 64)),
        ((300, 200), (288, 192)),  # cut, but for whole tokens
        ((1024, 1024), (1024, 1024)),
        ((1920, 1080), (1344, 768)),  # large: as for 1024
        ((7, 40), (16, 32)),  # scaled up to one token at least
    ],
)
def test_the_native_rule_keeps_every_image_that_is_not_large(size: tuple[int, int], crop: tuple[int, int]) -> None:
    assert best_crop_size(size, crop_sizes_for(size, "native")) == crop


@pytest.mark.parametrize("resolution", [0, -32, 500])
def test_a_resolution_between_the_patches_is_refused(resolution: int) -> None:
    with pytest.raises(ConfigError, match="resolution must be 'adaptive', 'native' or a positive multiple of 32"):
        crop_sizes_for((100, 100), resolution)


@given(sides, sides, st.sampled_from([512, 1024, "adaptive"]))
def test_a_plan_always_covers_its_crop(width: int, height: int, resolution: int) -> None:
    plan = plan_fit((width, height), crop_sizes_for((width, height), resolution))
    assert plan.crop[0] <= plan.scaled[0]
    assert plan.crop[1] <= plan.scaled[1]
    assert min(plan.max_offset) == 0
    assert plan.crop[0] % 16 == plan.crop[1] % 16 == 0


def test_a_picture_keeps_its_middle_and_its_direction() -> None:
    fitted = fit(gradient(300, 90), [(96, 64)], centered)
    pixels = np.asarray(fitted).astype(int)
    assert fitted.size == (96, 64)
    assert (np.diff(pixels[32, :, 0]) >= 0).all()
    assert (np.diff(pixels[:, 48, 1]) >= 0).all()
    assert abs(pixels[..., 0].mean() - 127) < 3
    assert pixels[0, 0, 0] > 50  # the sides were cut off,
    assert pixels[0, 0, 1] < 10  # top and bottom were not


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    image = gradient(96, 64)
    assert fit(image, [(96, 64)], centered).tobytes() == image.tobytes()


def test_large_pictures_are_halved_before_they_are_scaled() -> None:
    assert plan_fit((4000, 3000), crop_sizes_for((4000, 3000), 512)).num_halvings == 2
    assert fit(gradient(400, 400), [(32, 32)], centered).size == (32, 32)


def test_a_random_offset_is_a_function_of_the_seed_within_the_bounds() -> None:
    drawn = {random_offset(seed)(30, 0) for seed in range(50)}
    assert random_offset(7)(30, 0) == random_offset(7)(30, 0)
    assert len(drawn) > 10
    assert all(0 <= left <= 30 and upper == 0 for left, upper in drawn)
