from collections import Counter

import numpy as np
import pytest

from shapes.diagnosis import image_mistake, names_mistake, text_mistake
from shapes.goal import AnswerGoal, CaptionGoal, CountGoal, FillGoal, MapGoal, RelationGoal, SceneGoal
from shapes.tile import EDGES, map_codes, scene_codes
from shapes.world import Board, Piece, Scene

BOARD = Board(3, 3)
RED_CIRCLE, BLUE_STAR = Piece("red", "circle"), Piece("blue", "star")
SCENE = Scene.of(BOARD, "sky", {(0, 0): RED_CIRCLE, (1, 1): BLUE_STAR})
CIRCLE_ALONE = Scene.of(BOARD, "sky", {(0, 0): RED_CIRCLE})


@pytest.mark.parametrize(
    ("found", "mistake"),
    [
        (["red circle"], "missing object"),
        (["red circle", "blue star", "blue star"], "doubled object"),
        (["red circle", "blue star", "green heart"], "extra object"),
        (["blue circle", "red star"], "swapped colours"),
        (["green circle", "blue star"], "wrong colour"),
        (["red square", "blue star"], "wrong shape"),
        (["green square", "blue star"], "wrong object"),
        (["blue star", "red circle"], None),
    ],
)
def test_objects_that_differ_have_a_name_for_how(found: list[str], mistake: str | None) -> None:
    assert names_mistake(Counter(["red circle", "blue star"]), Counter(found)) == mistake


def test_a_piece_at_another_cell_is_at_the_wrong_cell() -> None:
    moved = SCENE.without((1, 1)).with_piece((2, 2), BLUE_STAR)
    assert image_mistake(SceneGoal(SCENE), scene_codes(moved)) == "wrong cell"


def test_another_background_is_named_before_anything_else() -> None:
    counts = CountGoal(BOARD, "sky", {"red circle": 2})
    assert image_mistake(SceneGoal(SCENE), scene_codes(CIRCLE_ALONE.on("night"))) == "wrong background"
    assert image_mistake(counts, scene_codes(CIRCLE_ALONE.on("night"))) == "wrong background"


def test_tiles_of_two_backgrounds_are_mixed() -> None:
    codes = scene_codes(SCENE)
    codes[2, 2] = scene_codes(SCENE.on("night"))[2, 2]
    assert image_mistake(SceneGoal(SCENE), codes) == "mixed tiles"


def test_a_changed_cell_that_was_to_be_kept_is_named() -> None:
    mask = np.zeros((3, 3), dtype=np.int64)
    mask[1, 1] = 1
    assert image_mistake(FillGoal(SCENE, mask), scene_codes(SCENE.without((0, 0)))) == "kept cell changed"
    assert image_mistake(FillGoal(SCENE, mask), scene_codes(CIRCLE_ALONE)) == "missing object"


def test_counts_may_be_by_shape_alone() -> None:
    assert image_mistake(CountGoal(BOARD, "sky", {"circle": 1, "heart": 1}), scene_codes(SCENE)) == "wrong shape"


def test_right_pieces_in_no_such_relation_are_a_wrong_relation() -> None:
    goal = RelationGoal(BOARD, "sky", RED_CIRCLE, "left of", BLUE_STAR)
    assert image_mistake(goal, scene_codes(SCENE)) == "wrong relation"
    assert image_mistake(goal, scene_codes(CIRCLE_ALONE)) == "missing object"


def test_a_map_is_wrong_as_a_whole() -> None:
    assert image_mistake(MapGoal(SCENE, EDGES), map_codes(CIRCLE_ALONE, EDGES)) == "wrong map"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a red circle at a1 and a blue star at b2 on a night background", "wrong background"),
        ("a red circle at a1 and a blue star at c3 on a sky background", "wrong cell"),
        ("a red circle at a1 on a sky background", "missing object"),
        ("a red at at", "not understood"),
    ],
)
def test_captions_are_told_apart_by_what_they_say(text: str, mistake: str) -> None:
    assert text_mistake(CaptionGoal(SCENE, is_detailed=True), text) == mistake


def test_an_answer_is_wrong_or_not_understood() -> None:
    assert text_mistake(AnswerGoal("two"), "three") == "wrong answer"
    assert text_mistake(AnswerGoal("two"), "the the") == "not understood"
