"""The contract between the engine and a request in progress: which logits it reads, and what it does with them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from dimoo_core.request.request import Request, SequenceRole

_NEVER = 2**31
"""A step that no request has."""


class CacheTrace(Protocol):
    """What a trace shows of a step cache."""

    def positions(self, sequence: int) -> Tensor | None:
        """What the next step computes of a sequence, None for all."""

    def scores(self, sequence: int) -> Tensor | None:
        """Best image logit of each position as of its last computation, None if none were kept yet."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StepTrace:
    """What one step saw and did; positions are ascending indices into the target."""

    step: int
    read: Tensor  # positions whose logits were read
    logits: Tensor  # their guided logits
    sampled_ids: Tensor
    confidence: Tensor
    committed: Tensor  # positions whose id was decided
    cache: CacheTrace | None = None  # as it was left by this step


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """What a step computes of one sequence: ascending target positions, and what follows the target or not."""

    target_C: Tensor
    has_suffix: bool


class Decoding(ABC):
    """One request between steps. Owns its target, its step counter and nothing of the model.

    Whether a step's numbers are finite is noted on the device, and comes to the host with the next value that is
    fetched anyway: a step waits for its device no more often than without.

    Attributes:
        wrong_step: The first step whose numbers were not finite, counted from 0; None as far as the host knows.
    """

    def __init__(self, request: Request, columns: slice, device: torch.device) -> None:
        self.request = request
        self.columns = columns  # vocabulary columns that it reads
        self.target = request.target.to(device, copy=True)  # the request must stay as it was: it may be run again
        self._around = [(sequence.prefix.to(device), sequence.suffix.to(device)) for sequence in request.sequences]
        self.wrong_step: int | None = None
        self._wrong_step_1 = torch.full((1,), _NEVER, device=device)

    @abstractmethod
    def reads(self) -> Tensor:
        """Ascending target positions whose logits the next step needs; never empty before ``is_done``."""

    @abstractmethod
    def advance(self, logits: Sequence[Tensor | None]) -> StepTrace:
        """Do one step from the logits of each sequence, (M, V) float32 at ``reads()``; None for those not ``due()``.

        Changes the target.
        """

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """No further step is needed."""

    @property
    @abstractmethod
    def step(self) -> int:
        """Number of the next step, counting those that decide nothing."""

    @property
    @abstractmethod
    def num_steps_run(self) -> int:
        """Forward passes so far."""

    def look_at(self, *extents: Tensor) -> None:
        """Note on the device if one of these, of shape () and from the step in progress, is not finite."""
        is_finite = torch.stack([extent.double() for extent in extents]).isfinite().all()
        self._wrong_step_1 = torch.where(is_finite, self._wrong_step_1, self._wrong_step_1.clamp(max=self.step))

    def _fetch(self, values_N: Tensor) -> list[Any]:
        """Values on the host; ``wrong_step`` is known from now on. Waits for the device, once for both."""
        *values, wrong_step = torch.cat((values_N, self._wrong_step_1.to(values_N.dtype))).tolist()
        self.wrong_step = None if wrong_step == _NEVER else int(wrong_step)
        return values

    def _fetch_number(self, number: Tensor) -> int:
        """The same of one integer."""
        return int(self._fetch(number[None])[0])

    def due(self) -> list[int]:
        """Sequences that the next step computes, ascending."""
        return list(range(len(self.request.sequences)))

    def scope(self, sequence: int) -> Scope | None:
        """What the next step computes of a sequence that is due, None for all of it. Holds ``reads()``."""
        del sequence
        return None

    def is_reused(self) -> bool:
        """Whether a step after the next one computes less than everything, so that keys and values have to be kept."""
        return False

    def num_tokens(self) -> int:
        """Tokens that the next step computes, all sequences together; 0 when done."""
        return 0 if self.is_done else sum(self._num_tokens_of(sequence) for sequence in self.due())

    def peak_tokens(self) -> int:
        """Tokens that no step from the next one on exceeds, all sequences together."""
        return self.request.num_tokens

    def num_bytes(self) -> int:
        """Memory that is kept between steps, beside the cache of keys and values."""
        return 0

    def _num_tokens_of(self, sequence: int) -> int:
        prefix, suffix = self._around[sequence]
        scope = self.scope(sequence)
        if scope is None:
            return len(prefix) + len(self.target) + len(suffix)
        return len(scope.target_C) + (len(suffix) if scope.has_suffix else 0)

    def sequence_ids(self) -> list[tuple[Tensor, int]]:
        """Each sequence's ids as they stand, and where the target begins in it."""
        sequences = zip(self._around, self.request.sequences, strict=True)
        return [
            (torch.cat((prefix, self._target_of(sequence.role), suffix)), len(prefix))
            for (prefix, suffix), sequence in sequences
        ]

    def _target_of(self, role: SequenceRole) -> Tensor:
        """The target as the sequences of a role see it."""
        del role
        return self.target
