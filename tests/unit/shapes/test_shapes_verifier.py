"""The verifier reads what is there, through small defects, and refuses what is no tile of the table."""

import numpy as np
import pytest
from PIL import Image

from shapes.tile import EDGES, SEGMENTS, map_codes, render, render_codes
from shapes.verifier import Unreadable, read_codes, read_scene
from shapes.verifier_evaluation import DEFECTS, MUST_REFUSE, num_read, refusals
from shapes.world import Board, Piece, Scene

SCENE = Scene.of(Board(3, 4), "sky", {(0, 0): Piece("red", "star"), (2, 3): Piece("blue", "circle")})


@pytest.mark.parametrize("defect", DEFECTS)
def test_scenes_are_read_right_through_small_defects(defect: str) -> None:
    assert num_read(defect, 60) == 60


@pytest.mark.parametrize("name", MUST_REFUSE)
def test_tiles_that_are_no_tiles_of_the_table_are_refused(name: str) -> None:
    refused, number = refusals(name)
    assert refused >= 0.97 * number
    if name in ("half shapes", "colours in between", "half transparent pieces", "shifted shapes"):
        assert refused == number


def test_maps_are_read_as_codes_and_are_no_scenes() -> None:
    for family in (EDGES, SEGMENTS):
        image = render_codes(map_codes(SCENE, family))
        assert np.array_equal(read_codes(image), map_codes(SCENE, family))
        assert isinstance(read_scene(image), Unreadable)


def test_a_tile_of_another_background_is_refused_with_both_named() -> None:
    image = render(SCENE).copy()
    image[16:32, 16:32] = render(SCENE.on("night"))[16:32, 16:32]
    read = read_scene(image)
    assert isinstance(read, Unreadable)
    assert "night and sky" in read.reason


def test_a_scene_shifted_by_half_a_tile_is_refused() -> None:
    assert isinstance(read_scene(np.roll(render(SCENE), 8, axis=1)), Unreadable)


def test_pictures_of_other_things_are_refused() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    grey = np.full((48, 48, 3), 128, dtype=np.uint8)
    for image in (noise, grey, render(SCENE)[:40], np.zeros((160, 160, 3), dtype=np.uint8)):
        assert isinstance(read_scene(image), Unreadable)


def test_a_refusal_names_the_cell_and_the_cause() -> None:
    image = render(SCENE).copy()
    image[32:40, 48:64] = image[16:24, 16:32]
    read = read_scene(Image.fromarray(image))
    assert isinstance(read, Unreadable)
    assert read.reason.startswith("d3: ")
    assert "blue circle on sky" in read.reason
