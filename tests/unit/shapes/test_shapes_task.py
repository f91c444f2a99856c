"""Examples of every task: right by their own judge, the same for the same seed, and split without crossing."""

import re

import numpy as np
import pytest

from shapes.judge import judge
from shapes.scene_source import SampleOptions
from shapes.split import HELD_OUT_PIECE, HELD_OUT_PROMPTED_PIECE, HELD_OUT_RELATION, Split, split_of
from shapes.task import PROMPT_TASKS, TASKS, kinds_of, sample
from shapes.tile import CODE_OF, SEGMENTS, Tile, render_codes
from shapes.world import STYLES, Board

KINDS = [(task, kind) for task, kinds in TASKS.items() for kind in kinds]
HELD_OUT_CODES = [CODE_OF[Tile(style, HELD_OUT_PIECE.shape, HELD_OUT_PIECE.colour)] for style in STYLES]


@pytest.mark.parametrize(("task", "kind"), KINDS)
def test_the_target_of_an_example_is_right(task: str, kind: str) -> None:
    for seed in range(20):
        example = sample(task, seed, "tune", kind=kind)
        if example.answer is not None:
            verdict = judge(example, example.answer)
        else:
            assert example.target_codes is not None
            verdict = judge(example, render_codes(example.target_codes), example.target_codes)
        assert verdict.is_right, (example.prompt, verdict.reason)
        assert (verdict.category, verdict.reason) == (f"{task}/{kind}", "")


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_example_and_another_seed_another(task: str) -> None:
    first, again, other = (sample(task, seed, "train") for seed in (1, 1, 2))
    assert (first.prompt, first.scenes, first.answer) == (again.prompt, again.scenes, again.answer)
    assert first.scenes != other.scenes


@pytest.mark.parametrize("task", TASKS)
def test_training_shows_training_scenes_only_and_no_held_out_combination(task: str) -> None:
    shape, relation, other_shape = HELD_OUT_RELATION
    held_out_relation = re.compile(rf"{shape} {relation} an? \w+ {other_shape}|{other_shape} below an? \w+ {shape}")
    for seed in range(200):
        example = sample(task, seed, "train")
        assert {split_of(scene) for scene in example.scenes} == {"train"}
        grids = [*example.inputs, *([] if example.target_codes is None else [example.target_codes])]
        assert not any(np.isin(grid, HELD_OUT_CODES).any() for grid in grids)
        words = f"{example.prompt} {example.answer}"
        assert f"{HELD_OUT_PIECE.colour} {HELD_OUT_PIECE.shape}" not in words
        assert not held_out_relation.search(words)
        if task in PROMPT_TASKS:
            assert f"{HELD_OUT_PROMPTED_PIECE.colour} {HELD_OUT_PROMPTED_PIECE.shape}" not in words


def test_what_is_asked_in_one_split_is_not_asked_in_another() -> None:
    def keys(split: Split) -> set[str]:
        return {sample(task, seed, split).key for task in TASKS for seed in range(60)}

    train, tune, test = keys("train"), keys("tune"), keys("test")
    assert not train & tune
    assert not train & test
    assert not tune & test


@pytest.mark.parametrize("held_out", ["piece", "prompted piece", "relation"])
def test_a_held_out_combination_is_shown_when_asked_for_and_never_in_training(held_out: str) -> None:
    options = SampleOptions(held_out=held_out)  # type: ignore[arg-type]
    example = sample("text_to_image", 3, "test", options=options)
    expected = {
        "piece": "purple star",
        "prompted piece": "green heart",
        "relation": "triangle",
    }[held_out]
    assert expected in example.prompt
    with pytest.raises(ValueError, match="training never shows"):
        sample("text_to_image", 3, "train", options=options)


def test_kinds_that_cannot_show_a_held_out_combination_are_left_out() -> None:
    assert kinds_of("text_to_image", "relation") == ["position"]
    assert "single object" not in kinds_of("text_to_image", "piece")
    with pytest.raises(ValueError, match="editing cannot show"):
        kinds_of("editing", "relation")


def test_options_bound_boards_and_pieces() -> None:
    options = SampleOptions(boards=(Board(5, 5),), max_pieces=2)
    for seed in range(30):
        example = sample("captioning", seed, "train", options=options)
        (scene,) = example.scenes
        assert scene.board == Board(5, 5)
        assert len(scene.placed) <= 2


def test_a_mask_keeps_some_cells_and_asks_for_others() -> None:
    for task in ("inpainting", "outpainting"):
        for seed in range(30):
            mask = sample(task, seed, "train").mask
            assert mask is not None
            assert set(np.unique(mask)) == {0, 1}


def test_the_shapes_of_a_control_map_have_one_colour_each() -> None:
    for seed in range(30):
        (scene,) = sample("control", seed, "train", kind=SEGMENTS).scenes
        assert len(scene.counts) == len({piece.shape for piece in scene.counts})


def test_yes_and_no_are_asked_equally_often() -> None:
    for kind in ("existence", "relation", "same"):
        answers = [(sample("questions", seed, "train", kind=kind).answer or "").split(",")[0] for seed in range(300)]
        assert 110 < answers.count("yes") < 190
        assert set(answers) == {"yes", "no"}


def test_an_unknown_task_or_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="task must be one of text_to_image"):
        sample("painting", 0, "train")
    with pytest.raises(ValueError, match="kind of editing must be one of recolour"):
        sample("editing", 0, "train", kind="rotate")
