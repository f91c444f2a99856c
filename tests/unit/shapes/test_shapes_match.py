"""Questions about whether an image is what a prompt asks for."""

from dimoo_core.request.templates import MATCH_QUESTION
from shapes.example import Example
from shapes.match_question import KIND
from shapes.phrases import at_cell, named
from shapes.task import sample
from shapes.tile import render_codes
from shapes.verifier import Unreadable, read_scene
from shapes.world import Scene

NUM_EXAMPLES = 300


def examples() -> list[Example]:
    return [sample("questions", seed, "train", kind=KIND) for seed in range(NUM_EXAMPLES)]


def verdict(example: Example) -> str:
    assert example.answer is not None
    return example.answer.partition(",")[0]


def shown(example: Example) -> Scene:
    scene = read_scene(render_codes(example.inputs[0]))
    assert not isinstance(scene, Unreadable)
    return scene


def test_yes_and_no_come_up_about_equally_often() -> None:
    answers = [verdict(example) for example in examples()]
    assert set(answers) == {"yes", "no"}
    assert 0.4 < answers.count("yes") / NUM_EXAMPLES < 0.6


def test_an_answer_continues_with_what_the_image_shows() -> None:
    for example in examples():
        assert example.answer is not None
        scene = shown(example)
        said = example.answer.partition(", ")[2]
        assert said.endswith(f", {scene.style}")
        assert [said.index(at_cell(named(piece), cell)) for cell, piece in scene.placed] == sorted(
            said.index(at_cell(named(piece), cell)) for cell, piece in scene.placed
        )
        if len(scene.placed) == 2:
            (first, _), (second, _) = scene.placed
            assert (" left of " in said) == (first[0] == second[0])
            assert (" above " in said) == (first[1] == second[1])


def test_an_image_that_does_not_match_is_a_near_miss_and_one_that_does_has_the_same_pieces() -> None:
    for example in examples():
        _, wanted = example.scenes
        scene = shown(example)
        if verdict(example) == "yes":
            assert (scene.counts, scene.style) == (wanted.counts, wanted.style)
        else:
            assert scene != wanted
            assert abs(len(scene.placed) - len(wanted.placed)) <= 1


def test_the_question_is_worded_as_the_product_asks_it() -> None:
    before, after = MATCH_QUESTION.lower().split("{prompt}")
    for example in examples():
        assert example.prompt.lower().startswith(before)
        assert example.prompt.rstrip(".").endswith(after)


def test_the_wanted_scene_of_a_prompt_belongs_to_the_split_too() -> None:
    for seed in range(50):
        of_train = sample("questions", seed, "train", kind=KIND)
        of_test = sample("questions", seed, "test", kind=KIND)
        assert of_train.key != of_test.key
