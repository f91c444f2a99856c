"""Where two runs of one request part, step by step, and how near the engine was to deciding as the reference did.

Dimensions: M positions that a step reads, N target positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.acceptance.noise import ReplayedNoise
from dimoo_core.decoding.base import StepTrace
from dimoo_core.decoding.sampling import gumbel
from dimoo_core.request.request import Request
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import ImageSettings

CLOSE_CALL = 1e-3
"""Margin, in logits or log-probability, that rounding in float32 can bridge: logits deviate by up to 3e-4."""

_MAX_ROUNDED = 4
"""Positions that one decision on the edge can change within a step: it changes which others leave the mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first step after which the targets differ.

    ``closest`` and ``widest`` say how far the engine's own decisions at the differing positions were from being those
    of the reference: the gap between the scores of the two ids, or between a confidence and the edge of the mask.
    """

    step: int
    num_positions: int
    closest: float
    widest: float

    @property
    def is_rounding(self) -> bool:
        """In float32 the last digits explain it."""
        return self.num_positions <= _MAX_ROUNDED and self.closest <= CLOSE_CALL


class StepWatch:
    """Follows the engine through one request and finds the first difference to the reference's recorded states."""

    def __init__(
        self, request: Request, tokens: SpecialTokens, noise: ReplayedNoise, states: Sequence[Tensor], final: Tensor
    ) -> None:
        self.target = request.target.clone()
        self.difference: Difference | None = None
        self._settings = request.settings
        self._tokens = tokens
        self._noise = noise
        self._states = [*states[1:], final]

    def see(self, trace: StepTrace) -> None:
        """Take note of a step of the engine."""
        read, committed = trace.read.cpu(), trace.committed.cpu()
        rows_N = torch.full((len(self.target),), -1)
        rows_N[read] = torch.arange(len(read))
        self.target[committed] = trace.sampled_ids.cpu()[rows_N[committed]]
        theirs = self._states[min(trace.step, len(self._states) - 1)]
        differing = (self.target != theirs).nonzero().squeeze(-1)
        if self.difference is None and len(differing):
            margins = self._margins(trace, differing, theirs, rows_N)
            self.difference = Difference(
                step=trace.step,
                num_positions=len(differing),
                closest=float(margins.min()),
                widest=float(margins.max()),
            )

    def _margins(self, trace: StepTrace, differing: Tensor, theirs: Tensor, rows_N: Tensor) -> Tensor:
        """Of each position that the step read; one that it did not read cannot have been a close call."""
        confidence_M = self._noisy_confidence(trace).cpu().double()
        committed_M = torch.zeros(len(confidence_M), dtype=torch.bool)
        committed_M[rows_N[trace.committed.cpu()]] = True
        mask = self._tokens.mask
        margins = []
        for position in differing.tolist():
            row, our_id, their_id = int(rows_N[position]), int(self.target[position]), int(theirs[position])
            if row < 0:
                margins.append(float("inf"))
            elif mask in (our_id, their_id):
                margins.append(_to_edge(confidence_M, committed_M, row))
            else:
                score_V = self._scores(trace, row)
                offset = self._tokens.image_offset if isinstance(self._settings, ImageSettings) else 0
                margins.append(float(score_V[our_id - offset] - score_V[their_id - offset]))
        return torch.tensor(margins, dtype=torch.float64)

    def _scores(self, trace: StepTrace, row: int) -> Tensor:
        """What the argmax was taken of."""
        settings, logits_V = self._settings, trace.logits[row].double()
        if not isinstance(settings, ImageSettings) or settings.temperature == 0:
            return logits_V
        return logits_V / settings.temperature + gumbel(self._noise.latest["sample"][row]).double()

    def _noisy_confidence(self, trace: StepTrace) -> Tensor:
        log_M = trace.confidence.clamp_min(1e-20).log()
        if not isinstance(self._settings, ImageSettings):
            return log_M
        return log_M + self._settings.temperature * gumbel(self._noise.latest["confidence"])


def _to_edge(confidence_M: Tensor, committed_M: Tensor, row: int) -> float:
    """How far a confidence is from the nearest one that was decided the other way."""
    others = confidence_M[~committed_M] if committed_M[row] else confidence_M[committed_M]
    if len(others) == 0:
        return float("inf")
    return float((others - confidence_M[row]).abs().min())
