"""The evaluation runs the product: the same results in every batch, through a whole run, and with several workers."""

import json
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.checkpoint.load import Model, load_model
from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from dimoo_core.settings import ImageSettings, TextSettings
from shapes.evaluate import main
from shapes.evaluation import Category, categories, evaluate, planned
from shapes.example import Example
from shapes.generation import ExampleGenerator, Output
from shapes.pipeline_run import run_examples
from shapes.task import TASKS, sample

IMAGE = ImageSettings(num_steps=16, cfg_scale=0.5, temperature=1.0)
TEXT = TextSettings(max_tokens=32, block_length=32, num_steps=16)
ASSIGNMENTS = ["text_to_image.cfg_scale=0.5"]


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(find_checkpoint(BUILTIN).directory)


def examples_of(*tasks: str, number: int) -> list[Example]:
    return [sample(tasks[seed % len(tasks)], seed, "tune") for seed in range(number)]


def shown(outputs: list[Output]) -> list[Any]:
    return [output.text if output.image is None else output.image.tobytes() for output in outputs]


@pytest.mark.soak
def test_every_task_comes_out_the_same_alone_and_in_mixed_batches(model: Model) -> None:
    examples = examples_of(*TASKS, number=12)
    outputs = [
        shown(ExampleGenerator(model, image=IMAGE, text=TEXT, max_running=batch).generate(examples, range(12)))
        for batch in (1, 8, None)
    ]
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.soak
def test_a_run_gives_what_the_engine_gives_with_no_worker_and_with_two(model: Model) -> None:
    examples = examples_of("text_to_image", "captioning", "questions", number=14)
    examples = [example for example in examples if len(example.inputs) <= 1]
    seeds = range(len(examples))
    expected = shown(ExampleGenerator(model, image=IMAGE, text=TEXT).generate(examples, seeds))
    for workers in (0, 2):
        found = run_examples(examples, seeds, model=BUILTIN, overrides=ASSIGNMENTS, workers=workers)
        assert shown(found) == expected


def right_outputs(examples: Any, seeds: Any) -> list[Output]:
    """What a perfect model gives."""
    from PIL import Image

    from shapes.tile import render_codes

    return [
        Output(text=example.answer)
        if example.target_codes is None
        else Output(codes=example.target_codes, image=Image.fromarray(render_codes(example.target_codes)))
        for example in examples
    ]


def test_a_perfect_model_is_right_everywhere_also_on_what_is_held_out() -> None:
    plan = planned(list(TASKS), "test", 4, 4)
    assert {category.held_out for category in plan} == {None, "piece", "prompted piece", "relation"}
    scores, wrong = evaluate(plan, right_outputs)
    assert [score for score in scores if score.right != 4 or score.total != 4] == []
    assert wrong == []


def test_a_model_that_always_gives_the_first_answer_is_wrong_nearly_everywhere() -> None:
    def first(examples: Any, seeds: Any) -> list[Output]:
        return [right_outputs(examples[:1], seeds)[0] for _ in examples]

    (edits,) = [each for each in categories(["editing"], "test", 20) if each.kind == "move"]
    (score,), wrong = evaluate([edits], first)
    assert score.right <= 2
    assert score.mistakes.total() == len(wrong) == 20 - score.right


def test_the_plan_of_a_manifest_has_only_what_a_manifest_can_ask_for() -> None:
    plan = planned(list(TASKS), "tune", 1, 0, is_manifest=True)
    names = {(category.task, category.kind) for category in plan}
    assert ("text_to_image", "cells") in names
    assert ("questions", "count") in names
    assert ("questions", "same") not in names  # two images


def test_the_command_prints_a_table_and_writes_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--tasks", "text_to_image", "questions", "--per-group", "1", "--held-out", "1", "--split", "tune"]
    main([*options, "--json", str(tmp_path / "scores.json")])
    printed = capsys.readouterr().out
    assert "| text_to_image | all | " in printed
    assert "relation held out" in printed
    report = json.loads((tmp_path / "scores.json").read_text())
    held_out = [score for score in report["scores"] if score["held_out"]]
    assert len(report["scores"]) - len(held_out) == 7 + 10
    assert report["image"]["num_steps"] == 16
    assert report["preset"] == "exact"
    assert sum(score["total"] - score["right"] for score in report["scores"]) == len(report["wrong"])


def test_categories_are_the_same_every_time() -> None:
    def prompts(category: Category) -> list[str]:
        return [example.prompt for example in category.examples]

    assert [prompts(each) for each in categories(["editing"], "test", 3)] == [
        prompts(each) for each in categories(["editing"], "test", 3)
    ]
