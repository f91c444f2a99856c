"""The contract between the engine and a request in progress: which logits it reads, and what it does with them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dimoo_core.request import Request, StreamRole
from dimoo_core.step_cache import StepCache


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StepTrace:
    """What one step saw and did; positions are ascending indices into the target."""

    step: int
    read: Tensor  # positions whose logits were read
    logits: Tensor  # their guided logits
    sampled_ids: Tensor
    confidence: Tensor
    committed: Tensor  # positions whose id was decided
    cache: StepCache | None = None  # as it was left by this step


class Decoding(ABC):
    """One request between steps. Owns its target, its step counter and nothing of the model."""

    def __init__(self, request: Request, columns: slice, device: torch.device) -> None:
        self.request = request
        self.columns = columns  # vocabulary columns that it reads
        self.target = request.target.to(device, copy=True)  # the request must stay as it was: it may be run again
        self._around = [(stream.prefix.to(device), stream.suffix.to(device)) for stream in request.streams]

    @abstractmethod
    def reads(self) -> Tensor:
        """Ascending target positions whose logits the next step needs; never empty before ``is_done``."""

    @abstractmethod
    def advance(self, logits: Sequence[Tensor]) -> StepTrace:
        """Do one step from the logits of each stream, (M, V) float32 at ``reads()``. Changes the target."""

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """No further step is needed."""

    @property
    @abstractmethod
    def num_steps_run(self) -> int:
        """Forward passes so far."""

    def stream_ids(self) -> list[tuple[Tensor, int]]:
        """Each stream's ids as they stand, and where the target begins in it."""
        streams = zip(self._around, self.request.streams, strict=True)
        return [
            (torch.cat((prefix, self._target_of(stream.role), suffix)), len(prefix))
            for (prefix, suffix), stream in streams
        ]

    def _target_of(self, role: StreamRole) -> Tensor:
        """The target as the streams of a role see it."""
        del role
        return self.target
