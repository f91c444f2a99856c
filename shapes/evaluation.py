"""How good a model is: examples of every category, generated, judged and counted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from shapes.diagnosis import image_mistake, text_mistake
from shapes.example import Example
from shapes.generation import Output
from shapes.judge import judge
from shapes.pipeline_run import can_ask
from shapes.scene_source import HeldOut, SampleOptions
from shapes.score import Score
from shapes.split import Split
from shapes.task import kinds_of, sample
from shapes.tile import Codes
from shapes.verifier import Unreadable, read_codes
from shapes.world import BOARDS, Board

HELD_OUT: tuple[HeldOut, ...] = ("piece", "prompted piece", "relation")
"""The combinations that training never shows."""

Generate = Callable[[Sequence[Example], Sequence[int]], list[Output]]
"""One output for each example, from one seed for each."""


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
    tasks: Sequence[str],
    split: Split,
    num_examples: int,
    *,
    held_out: HeldOut | None = None,
    boards: tuple[Board, ...] = BOARDS,
) -> Iterator[Category]:
    """So many examples of each kind of these tasks; tasks that cannot show what is held out are left out."""
    for task in tasks:
        try:
            kinds = kinds_of(task, held_out)
        except ValueError:
            continue
        for kind in kinds:
            options = SampleOptions(held_out=held_out, boards=boards)
            seeds = tuple(range(num_examples))
            found = tuple(sample(task, seed, split, kind=kind, options=options) for seed in seeds)
            yield Category(task, kind, held_out, found, seeds)


def planned(
    tasks: Sequence[str],
    split: Split,
    num_examples: int,
    num_held_out: int,
    *,
    is_manifest: bool = False,
    boards: tuple[Board, ...] = BOARDS,
) -> list[Category]:
    """Categories with what training shows, then those with what it does not; of these a manifest cannot ask for all."""
    plan = list(categories(tasks, split, num_examples, boards=boards)) if num_examples else []
    if num_held_out:
        for held_out in HELD_OUT:
            plan += categories(tasks, split, num_held_out, held_out=held_out, boards=boards)
    return [category for category in plan if not is_manifest or all(map(can_ask, category.examples))]


def evaluate(
    plan: Sequence[Category], generate: Generate, *, num_shown: int = 0
) -> tuple[list[Score], list[WrongOutput]]:
    """The score of each category, and what went wrong, of which so many outputs a category are printed.

    All examples are generated together, so that the engine is never half empty.
    """
    examples = [example for category in plan for example in category.examples]
    outputs = iter(generate(examples, [seed for category in plan for seed in category.seeds]))
    scores: list[Score] = []
    wrong: list[WrongOutput] = []
    for category in plan:
        score, wrong_here = scored(category, [next(outputs) for _ in category.examples])
        scores.append(score)
        wrong += wrong_here
        for each in wrong_here[:num_shown]:
            print(f"  {each.category}: {each.prompt!r}: {each.mistake}: {each.reason} {each.output}")
    return scores, wrong


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
    codes = output.codes if output.codes is not None else _codes_shown(output.image)
    verdict = judge(example, output.image, codes)
    if verdict.is_right:
        return "", None
    return verdict.reason, "unreadable" if codes is None else image_mistake(example.goal, codes)


def _codes_shown(image: Image.Image) -> Codes | None:
    """The codes of an image of which only the pixels are known."""
    codes = read_codes(image)
    return None if isinstance(codes, Unreadable) else codes
