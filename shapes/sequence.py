"""From examples to what the transformer is trained on: whole sequences, laid out by the product's own code.

Dimensions: T tokens of a sequence, N target positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from dimoo_core.model.packed_batch import SequenceView
from dimoo_core.request.builder import RequestLayout, with_newlines
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import Request
from dimoo_core.request.tokenizer import Tokenizer
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import PIXELS_PER_TOKEN, ImageSettings, TextSettings
from shapes.example import Example
from shapes.goal import AnswerGoal

ANSWER_LENGTHS = (8, 16, 32, 64)
"""Numbers of answer tokens that the model is trained with; the rest of an answer is filled with end-of-text."""

NO_PROMPT_RATIO = 0.1
"""Share of image examples that show the unconditional prompt, for guidance; with input images half of it each."""

FILLER_WEIGHT = 0.15
"""Weight in the loss of end-of-text after the first, which is easy and would drown the words."""

FULL_MASK_RATIO = 0.4
"""Share of sequences whose whole target is masked."""

VERDICT_WEIGHT = 5.0
"""Weight in the loss of what an answer says before what it rests on: of many tokens the few that are asked for."""

VERDICT_ALONE_RATIO = 0.25
"""Share of such answers of which that alone is masked, as it is when generation comes to decide it."""

_NO_NOISE = SeededNoise(0, torch.device("cpu"))  # a request has a source of noise, but nothing is sampled here


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSequence:
    """One sequence with its target filled in.

    ``predicted_N`` are ascending indices into the sequence of what may be masked, ``weight_N`` their weights. The first
    ``num_verdict`` of them are an answer that goes on with what it rests on.
    """

    ids_T: Tensor
    predicted_N: Tensor
    weight_N: Tensor
    is_image: bool
    task: str
    num_verdict: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class MaskedSequence:
    """A sequence as the model sees it: ``view`` reads the masked positions, ``target_R`` are the true ids there."""

    view: SequenceView
    target_R: Tensor
    weight_R: Tensor
    is_image: bool
    task: str


class SequenceBuilder:
    """Lays examples out for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, tokens: SpecialTokens) -> None:
        self._layout = RequestLayout(tokenizer, tokens)
        self._tokenizer = tokenizer
        self._tokens = tokens

    def build(self, example: Example, rng: Random) -> TrainingSequence:
        """The sequence of an example; which stream of guidance it is, and how long an answer may be, is random."""
        if example.answer is not None:
            return self._answer(example, example.answer, rng)
        return self._image(example, rng)

    def _image(self, example: Example, rng: Random) -> TrainingSequence:
        assert example.target_codes is not None
        codes_HW = torch.from_numpy(example.target_codes).long()
        is_predicted_HW = torch.ones_like(codes_HW) if example.mask is None else torch.from_numpy(example.mask).long()
        request = self._image_request(example, tuple(codes_HW.shape))
        unconditional = request.sequences[1:]
        is_bare = rng.random() < NO_PROMPT_RATIO
        each = rng.choice(unconditional) if is_bare else request.sequences[0]
        target_N = with_newlines(codes_HW + self._tokens.image_offset, self._tokens)
        # A newline token stands where the flag's layout has the newline id, which is no flag.
        is_predicted_N = with_newlines(is_predicted_HW, self._tokens) == 1
        predicted_N = is_predicted_N.nonzero().squeeze(-1) + len(each.prefix)
        return TrainingSequence(each.around(target_N), predicted_N, torch.ones(len(predicted_N)), True, example.task)

    def _image_request(self, example: Example, grid: tuple[int, ...]) -> Request:
        settings = ImageSettings(
            height_px=grid[0] * PIXELS_PER_TOKEN,
            width_px=grid[1] * PIXELS_PER_TOKEN,
            cfg_scale=1.0,
            cfg_image_scale=1.0,
        )
        if not example.inputs:
            return self._layout.text_to_image("", example.prompt, settings, _NO_NOISE)
        images = [torch.from_numpy(codes).long() for codes in example.inputs]
        return self._layout.image_to_image("", example.system, example.prompt, images, settings, _NO_NOISE)

    def _answer(self, example: Example, answer: str, rng: Random) -> TrainingSequence:
        answer_ids = self._tokenizer.encode(answer)
        fitting = [length for length in ANSWER_LENGTHS if length > len(answer_ids)]
        length = fitting[0] if rng.random() < 0.5 else rng.choice(fitting[:2])
        settings = TextSettings(max_tokens=length, block_length=length)
        images = [torch.from_numpy(codes).long() for codes in example.inputs]
        request = self._layout.understanding("", example.prompt, images, settings, _NO_NOISE)
        each = request.sequences[0]
        filler = [self._tokens.end_of_text] * (length - len(answer_ids))
        weight_N = torch.ones(length)
        weight_N[len(answer_ids) + 1 :] = FILLER_WEIGHT
        num_verdict = 0
        if isinstance(example.goal, AnswerGoal) and example.goal.evidence:
            num_verdict = len(self._tokenizer.encode(example.goal.answer))
            weight_N[:num_verdict] = VERDICT_WEIGHT
        predicted_N = torch.arange(length) + len(each.prefix)
        ids_T = each.around(torch.tensor([*answer_ids, *filler]))
        return TrainingSequence(ids_T, predicted_N, weight_N, False, example.task, num_verdict)


def masked(sequence: TrainingSequence, mask_id: int, rng: Random) -> MaskedSequence:
    """The sequence with some of its target masked: all of it, a share that is uniform in (0, 1], or a verdict alone.

    The first step of generation decides most, and there the prompt alone says what is right.
    """
    chosen = _masked_places(sequence, rng)
    positions_R = sequence.predicted_N[chosen]
    ids_T = sequence.ids_T.clone()
    ids_T[positions_R] = mask_id
    return MaskedSequence(
        view=SequenceView(ids_T, positions_R),
        target_R=sequence.ids_T[positions_R],
        weight_R=sequence.weight_N[chosen],
        is_image=sequence.is_image,
        task=sequence.task,
    )


def _masked_places(sequence: TrainingSequence, rng: Random) -> Tensor:
    if sequence.num_verdict and rng.random() < VERDICT_ALONE_RATIO:
        return torch.arange(sequence.num_verdict)
    num_predicted = len(sequence.predicted_N)
    ratio = 1.0 if rng.random() < FULL_MASK_RATIO else 1.0 - rng.random()
    return torch.tensor(sorted(rng.sample(range(num_predicted), max(1, round(num_predicted * ratio)))))


def equal_length_groups(sequences: Iterator[TrainingSequence], group_size: int) -> Iterator[list[TrainingSequence]]:
    """Groups of sequences of one length, so that each group is one batch of attention without padding."""
    waiting: dict[int, list[TrainingSequence]] = {}
    for sequence in sequences:
        group = waiting.setdefault(len(sequence.ids_T), [])
        group.append(sequence)
        if len(group) == group_size:
            yield waiting.pop(len(sequence.ids_T))
