"""What came of the rows: tokens of the engine against the reference's, and of presets against the exact engine."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from benchmarks.acceptance.difference import Difference
from benchmarks.acceptance.likeness import Likeness
from dimoo_core.request.tokens import SpecialTokens

Verdict = Literal["equal", "rounding", "differs"]
"""``rounding``: parted at a decision so close that the last digits of float32 explain it. Only asked in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """How many of the tokens that both decided are equal."""

    num_tokens: int
    num_equal: int
    ends_alike: bool = True  # of an answer: both decided the same blocks, or the engine stopped at </answer>

    @property
    def share(self) -> float:
        """Equal ones among all; 0 if there are none."""
        return self.num_equal / self.num_tokens if self.num_tokens else 0.0

    @property
    def are_equal(self) -> bool:
        """Every one of them, and there are some."""
        return self.ends_alike and 0 < self.num_tokens == self.num_equal


def compare_images(theirs: Tensor, ours: Tensor) -> Tokens:
    """Codes of two images."""
    num_equal = int((theirs == ours).sum()) if theirs.shape == ours.shape else 0
    return Tokens(num_tokens=theirs.numel(), num_equal=num_equal)


def compare_answers(theirs: Tensor, ours: Tensor, tokens: SpecialTokens) -> Tokens:
    """Targets of two answers, as far as both were decided.

    The reference goes on after ``</answer>``, where the engine stops; blocks after that are not compared. It gives up
    at the end of text, where the engine stops, too.
    """
    is_theirs, is_ours = theirs != tokens.mask, ours != tokens.mask
    both = is_theirs & is_ours
    is_stopped = bool((ours == tokens.answer_end).any())
    return Tokens(
        num_tokens=int(both.sum()),
        num_equal=int((theirs == ours)[both].sum()),
        ends_alike=bool((is_theirs == is_ours).all()) or (is_stopped and not bool((is_ours & ~is_theirs).any())),
    )


def agreement(exact: Tensor, other: Tensor) -> Tokens:
    """Tokens of a preset against the exact ones; of answers of different lengths, what one has beyond differs."""
    first, second = exact.flatten(), other.flatten()
    shorter = min(len(first), len(second))
    num_equal = int((first[:shorter] == second[:shorter]).sum())
    return Tokens(num_tokens=max(len(first), len(second)), num_equal=num_equal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One row in one dtype by both implementations."""

    dtype: str
    row: str
    task: str
    tokens: Tokens
    difference: Difference | None
    reference_s: float
    engine_s: float
    likeness: Likeness | None  # of the images, each decoded by its own implementation
    answers: tuple[str, str] | None  # the reference's and the engine's
    picture: str | None  # name of the file beside the page

    @property
    def verdict(self) -> Verdict:
        """Whether the tokens are equal, and if not, whether rounding explains it."""
        if self.tokens.are_equal:
            return "equal"
        parted = self.difference
        return "rounding" if self.dtype == "float32" and parted is not None and parted.is_rounding else "differs"

    @property
    def must_be_equal(self) -> bool:
        """In float32; coarser types round in another order, and tokens may part."""
        return self.dtype == "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetOutcome:
    """One row by the engine under a preset, against itself computing exactly."""

    dtype: str
    preset: str
    row: str
    task: str
    tokens: Tokens
    exact_s: float
    seconds: float
    likeness: Likeness | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRun:
    """A row that a turn ran."""

    turn: str
    row: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A row that a turn did not run."""

    turn: str
    row: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCost:
    """Loading and memory of one turn."""

    turn: str
    load_s: float
    peak_bytes: int | None
