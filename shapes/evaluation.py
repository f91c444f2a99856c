"""How good a model is: examples of every category, generated, judged and counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shapes.diagnosis import image_mistake, text_mistake
from shapes.example import Example
from shapes.generation import ExampleGenerator, Output
from shapes.judge import judge
from shapes.scene_source import HeldOut, SampleOptions
from shapes.score import Score
from shapes.split import Split
from shapes.task import kinds_of, sample

HELD_OUT: tuple[HeldOut, ...] = ("piece", "prompted piece", "relation")
"""The combinations that training never shows."""


@dataclass(frozen=True, slots=True, eq=False)
class Category:
    """Examples of one kind of one task."""

    task: str
    kind: str
    held_out: HeldOut | None
    examples: tuple[Example, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongOutput:
    """A wrong output, for people to look at."""

    category: str
    prompt: str
    mistake: str
    reason: str
    output: str


def categories(
    tasks: Sequence[str], split: Split, num_examples: int, *, held_out: HeldOut | None = None
) -> Iterator[Category]:
    """So many examples of each kind of these tasks; tasks that cannot show what is held out are left out."""
    for task in tasks:
        try:
            kinds = kinds_of(task, held_out)
        except ValueError:
            continue
        for kind in kinds:
            options = SampleOptions(held_out=held_out)
            seeds = tuple(range(num_examples))
            found = tuple(sample(task, seed, split, kind=kind, options=options) for seed in seeds)
            yield Category(task, kind, held_out, found, seeds)


def evaluate(generator: ExampleGenerator, category: Category) -> tuple[Score, list[WrongOutput]]:
    """The score of one category, and what went wrong."""
    outputs = generator.generate(category.examples, category.seeds)
    return scored(category, outputs)


def scored(category: Category, outputs: Sequence[Output]) -> tuple[Score, list[WrongOutput]]:
    """The score of outputs, one for each example of the category."""
    score = Score(category.task, category.kind, category.held_out)
    wrong: list[WrongOutput] = []
    for example, output in zip(category.examples, outputs, strict=True):
        reason, mistake = _verdict(example, output)
        score.add(mistake)
        if mistake is not None:
            shown = output.text if output.text is not None else ""
            name = f"{example.category}, {category.held_out} held out" if category.held_out else example.category
            wrong.append(
                WrongOutput(category=name, prompt=example.prompt, mistake=mistake, reason=reason, output=shown)
            )
    return score, wrong


def _verdict(example: Example, output: Output) -> tuple[str, str | None]:
    """Why an output is wrong and which kind of mistake that is, None if it is right."""
    if output.text is not None:
        verdict = judge(example, output.text)
        return verdict.reason, None if verdict.is_right else text_mistake(example.goal, output.text)
    assert output.image is not None
    assert output.codes is not None
    verdict = judge(example, output.image, output.codes)
    return verdict.reason, None if verdict.is_right else image_mistake(example.goal, output.codes)
