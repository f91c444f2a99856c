"""Sampling examples of every task: ``sample("editing", seed=7, split="train")``."""

from collections.abc import Callable, Mapping
from random import Random

from shapes import captioning_task, editing_task, painting_task, question_task, reference_task, text_to_image_task
from shapes.example import Example
from shapes.scene_source import HeldOut, SampleOptions, SceneSource
from shapes.split import HELD_OUT_PIECE, HELD_OUT_PROMPTED_PIECE, Split, split_of, split_of_key

TASKS: Mapping[str, Mapping[str, Callable[[SceneSource], Example]]] = {
    text_to_image_task.TASK: text_to_image_task.KINDS,
    painting_task.INPAINTING: painting_task.INPAINTING_KINDS,
    painting_task.OUTPAINTING: painting_task.OUTPAINTING_KINDS,
    editing_task.TASK: editing_task.KINDS,
    reference_task.SUBJECT: reference_task.SUBJECT_KINDS,
    reference_task.STYLE_TRANSFER: reference_task.STYLE_TRANSFER_KINDS,
    reference_task.DENSE_PREDICTION: reference_task.DENSE_PREDICTION_KINDS,
    reference_task.CONTROL: reference_task.CONTROL_KINDS,
    captioning_task.TASK: captioning_task.KINDS,
    question_task.TASK: question_task.KINDS,
}
"""The kinds of each task, each with the function that draws an example."""

PROMPT_TASKS = (text_to_image_task.TASK, painting_task.INPAINTING, painting_task.OUTPAINTING)
"""Tasks that describe their target in a text-to-image prompt."""

_OPEN_COLOUR_KINDS = ("single object", "two objects")
_DEFAULT_OPTIONS = SampleOptions()
_MAX_DRAWS = 10_000


def sample(
    task: str, seed: int, split: Split, *, kind: str | None = None, options: SampleOptions = _DEFAULT_OPTIONS
) -> Example:
    """One example; the same arguments give the same example, and no two splits share a seed.

    In training examples every scene belongs to the training split; in the others the scene or prompt that is asked for
    belongs to their split, so nothing that is asked there was asked or shown in training. What is held out is in no
    training example, so it is not split further.

    Args:
        task: One of ``TASKS``.
        seed: Any integer.
        split: ``train``, ``tune`` or ``test``.
        kind: One of the task's kinds; any of them if None.
        options: Boards, number of pieces, and whether a held-out combination is to be shown.

    Raises:
        ValueError: If there is no such task or kind, the kind cannot show the held-out combination, or the options
            leave so few scenes that the split has none.
    """
    kinds = kinds_of(task, options.held_out)
    if kind is not None and kind not in kinds:
        raise ValueError(f"kind of {task} must be one of {', '.join(kinds)}, got {kind!r}")
    if options.held_out is not None and split == "train":
        raise ValueError(f"training never shows the held-out {options.held_out}")
    rng = Random(f"{split}/{task}/{kind}/{seed}")
    make = TASKS[task][kind or rng.choice(kinds)]
    for _ in range(_MAX_DRAWS):
        example = make(SceneSource(rng, options, is_prompt=task in PROMPT_TASKS))
        if _belongs(example, split) if options.held_out is None else _shows(example, options.held_out):
            return example
    raise ValueError(f"{split} has no example of {task} with {options}: allow more boards or pieces")


def kinds_of(task: str, held_out: HeldOut | None = None) -> list[str]:
    """The kinds of a task, or those that can show a held-out combination.

    Raises:
        ValueError: If there is no such task, or none of its kinds can.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    kinds = list(TASKS[task])
    if held_out == "relation":
        kinds = ["position"] if task == text_to_image_task.TASK else []
    elif held_out is not None:
        kinds = [kind for kind in kinds if task != text_to_image_task.TASK or kind not in _OPEN_COLOUR_KINDS]
        if held_out == "prompted piece" and task not in PROMPT_TASKS:
            kinds = []
    if not kinds:
        raise ValueError(f"{task} cannot show the held-out {held_out}")
    return kinds


def _belongs(example: Example, split: Split) -> bool:
    if split == "train":
        return split_of_key(example.key) == "train" and all(split_of(scene) == "train" for scene in example.scenes)
    return split_of_key(example.key) == split


def _shows(example: Example, held_out: HeldOut) -> bool:
    if held_out == "relation":
        return True
    piece = HELD_OUT_PIECE if held_out == "piece" else HELD_OUT_PROMPTED_PIECE
    return any(piece in scene.counts for scene in example.scenes)
