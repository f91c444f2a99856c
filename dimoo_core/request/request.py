"""What the engine is given and what it gives back.

A request is one or more *sequences* (conditional, unconditional, …) around one shared *target*: the image or the answer
that is being unmasked. Only the target changes between steps.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dimoo_core.errors import RequestError
from dimoo_core.request.noise import NoiseSource
from dimoo_core.settings import MAX_POSITIONS, ChoiceSettings, ImageSettings, TextSettings

SequenceRole = Literal["cond", "uncond", "uncond_text", "uncond_image"]
"""What a sequence is to guidance: everything given; no prompt; no text but the images; no images but the text."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenSequence:
    """Ids before and after the target in one token sequence; int64, one dimension."""

    prefix: Tensor
    suffix: Tensor
    role: SequenceRole = "cond"

    def around(self, target_L: Tensor) -> Tensor:
        """The whole sequence with the target as it stands."""
        return torch.cat((self.prefix, target_L, self.suffix))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Request:
    """One generation. ``sequences[0]`` is the conditional one, and each role occurs at most once.

    ``target`` holds the ids to start from, with masks where the model is to decide, shape (L,). For an image it is
    rows of codes, each closed by a newline token, without the begin and end tokens. ``choices`` are the ids of the
    answers to weigh, where ``settings`` ask for that.
    """

    request_id: str
    sequences: tuple[TokenSequence, ...]
    target: Tensor
    settings: ImageSettings | TextSettings | ChoiceSettings
    noise: NoiseSource
    choices: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is too long.

        Raises:
            RequestError: A sequence has more than ``MAX_POSITIONS`` tokens.
        """
        length = max(len(s.prefix) + len(self.target) + len(s.suffix) for s in self.sequences)
        if length > MAX_POSITIONS:
            parts = f"prompt and images {length - len(self.target)}, the result {len(self.target)}"
            raise RequestError(
                f"prompt is too long: the sequence must have at most {MAX_POSITIONS} tokens, got {length} ({parts}): "
                "shorten the prompt, or ask for a smaller result"
            )

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences together: what one step of this request costs."""
        return sum(len(s.prefix) + len(self.target) + len(s.suffix) for s in self.sequences)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ImageResult:
    """A finished image as VQ codes, (rows, columns) int64 in 0..8191 on the CPU."""

    request_id: str
    vq_codes: Tensor
    num_steps: int
    num_tokens: int  # tokens that went through the transformer for this request
    engine_s: float  # from admission to the last step


FinishReason = Literal["stop", "length"]
"""``stop``: the answer ends with its end token. ``length``: it fills its place."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TextResult:
    """A finished answer: its token ids before the end token, if there is one."""

    request_id: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    num_steps: int
    num_tokens: int
    engine_s: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ChoiceResult:
    """How probable each of the request's choices is, in their order; together 1."""

    request_id: str
    probabilities: tuple[float, ...]
    num_steps: int
    num_tokens: int
    engine_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed:
    """A request that the engine could not run; others continue."""

    request_id: str
    error: BaseException


Result = ImageResult | TextResult | ChoiceResult | RequestFailed
