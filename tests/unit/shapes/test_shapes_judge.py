"""Verdicts: what is asked is right in every allowed form, and each kind of mistake is wrong."""

from dataclasses import replace

import numpy as np
import pytest

from shapes.example import Example
from shapes.goal import AnswerGoal, CaptionGoal, CountGoal, FillGoal, Goal, MapGoal, RelationGoal, SceneGoal
from shapes.judge import judge
from shapes.tile import EDGES, SEGMENTS, map_codes, render, render_codes, scene_codes
from shapes.world import Board, Piece, Scene

BOARD = Board(3, 3)
RED, BLUE = Piece("red", "circle"), Piece("blue", "star")
SCENE = Scene.of(BOARD, "night", {(0, 0): RED, (1, 2): BLUE})
SWAPPED = Scene.of(BOARD, "night", {(0, 0): Piece("blue", "circle"), (1, 2): Piece("red", "star")})
MOVED = Scene.of(BOARD, "night", {(2, 0): RED, (1, 2): BLUE})


def example(goal: Goal) -> Example:
    return Example(task="task", kind="kind", system="", prompt="", goal=goal, scenes=(), key="")


def test_an_exact_scene_has_no_other_right_image() -> None:
    goal = example(SceneGoal(SCENE))
    assert judge(goal, render(SCENE)).is_right
    wrong = [SWAPPED, MOVED, SCENE.without((0, 0)), SCENE.with_piece((2, 2), RED), SCENE.on("sky")]
    for scene in wrong:
        assert not judge(goal, render(scene)).is_right
    assert judge(goal, render(SCENE.on("sky"))).reason == "a sky background, not night"
    assert judge(goal, render(MOVED)).reason == "a1: nothing, not red circle"


def test_counts_are_right_at_any_cells_and_wrong_with_other_numbers_colours_or_extras() -> None:
    goal = example(CountGoal(BOARD, "night", {"red circle": 1, "blue star": 1}))
    assert judge(goal, render(SCENE)).is_right
    assert judge(goal, render(MOVED)).is_right
    for scene in (SWAPPED, SCENE.without((0, 0)), SCENE.with_piece((2, 2), RED), SCENE.on("paper")):
        assert not judge(goal, render(scene)).is_right


def test_a_count_of_shapes_leaves_the_colours_open() -> None:
    goal = example(CountGoal(BOARD, "night", {"circle": 1, "star": 1}))
    assert judge(goal, render(SCENE)).is_right
    assert judge(goal, render(SWAPPED)).is_right
    assert not judge(goal, render(SCENE.with_piece((0, 0), BLUE))).is_right


@pytest.mark.parametrize(
    ("relation", "cells", "is_right"),
    [
        ("left of", ((1, 0), (1, 2)), True),
        ("left of", ((1, 2), (1, 0)), False),
        ("left of", ((0, 0), (1, 2)), False),
        ("right of", ((1, 2), (1, 0)), True),
        ("above", ((0, 1), (1, 1)), True),
        ("above", ((2, 1), (1, 1)), False),
        ("below", ((2, 1), (0, 1)), True),
    ],
)
def test_a_relation_holds_in_one_row_or_column_at_any_distance(
    relation: str, cells: tuple[tuple[int, int], tuple[int, int]], is_right: bool
) -> None:
    scene = Scene.of(BOARD, "night", dict(zip(cells, (RED, BLUE), strict=True)))
    goal = example(RelationGoal(BOARD, "night", RED, relation, BLUE))
    assert judge(goal, render(scene)).is_right == is_right


def test_a_filled_image_must_keep_the_codes_of_its_kept_cells() -> None:
    mask = np.zeros((3, 3), dtype=np.int64)
    mask[1] = 1
    goal = example(FillGoal(SCENE, mask))
    assert judge(goal, render(SCENE), scene_codes(SCENE)).is_right
    changed = scene_codes(SCENE)
    changed[0, 0] = 1
    assert not judge(goal, render(SCENE), changed).is_right
    unfilled = SCENE.without((1, 2))
    assert not judge(goal, render(unfilled), scene_codes(unfilled)).is_right
    with pytest.raises(ValueError, match="only with its codes"):
        judge(goal, render(SCENE))


def test_a_map_is_right_for_its_scene_and_its_kind_alone() -> None:
    goal = example(MapGoal(SCENE, EDGES))
    assert judge(goal, render_codes(map_codes(SCENE, EDGES))).is_right
    assert not judge(goal, render_codes(map_codes(SCENE, SEGMENTS))).is_right
    assert not judge(goal, render_codes(map_codes(MOVED, EDGES))).is_right
    assert not judge(goal, render(SCENE)).is_right


def test_a_caption_must_say_every_piece_and_the_background() -> None:
    goal = example(CaptionGoal(SCENE, is_detailed=False))
    assert judge(goal, "a blue star and a red circle on a night background").is_right
    assert judge(goal, "a blue star and a red circle at a1 on a night background").is_right
    for text in (
        "a red star and a blue circle on a night background",
        "two red circles and a blue star on a night background",
        "a red circle on a night background",
        "a red circle and a blue star on a sky background",
        "a red circle and a blue star",
        "a blue star and a red circle at b1 on a night background",
        "circle red star blue",
    ):
        assert not judge(goal, text).is_right


def test_a_detailed_caption_must_say_every_cell() -> None:
    goal = example(CaptionGoal(SCENE, is_detailed=True))
    assert judge(goal, "blue star at c2, red circle at a1, night background").is_right
    assert not judge(goal, "blue star at c2, red circle at a2, night background").is_right
    assert not judge(goal, "blue star at c2 and a red circle, night background").is_right


def test_an_answer_is_right_in_any_wording() -> None:
    goal = example(AnswerGoal("a red circle"))
    assert judge(goal, "It is the red circle.").is_right
    assert not judge(goal, "a red star").is_right
    assert not judge(goal, "a red circle or a red star").is_right
    assert judge(goal, "").reason == "nothing, not a red circle"


def test_what_an_answer_rests_on_need_not_be_said_but_must_be_true() -> None:
    goal = example(AnswerGoal("yes", "at b3 and c1"))
    for text in ("yes", "yes, at b3", "yes, at c1 and b3"):
        assert judge(goal, text).is_right
    for text in ("at b3", "yes, at b2", "no, at b3", "yes, no"):
        assert not judge(goal, text).is_right


def test_an_output_of_the_wrong_kind_is_wrong() -> None:
    assert not judge(example(SceneGoal(SCENE)), "a red circle").is_right
    assert not judge(example(AnswerGoal("yes")), render(SCENE)).is_right
    assert not judge(example(SceneGoal(replace(SCENE, board=Board(4, 4)))), render(SCENE)).is_right
