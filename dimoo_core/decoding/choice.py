"""One forward pass that gives the probability of each of a few answers, instead of writing one.

Every position of the answer is masked, so an answer's tokens are taken as independent of each other given the prompt:
what the first step of ``text_decoding`` sees. Formula: docs/numerics.md. Dimensions: M positions that are read, V
columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimoo_core.decoding.base import Decoding, StepTrace
from dimoo_core.decoding.guidance import guide_text
from dimoo_core.decoding.sampling import extent_of
from dimoo_core.request.request import Request
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import ChoiceSettings


class ChoiceDecoding(Decoding):
    """The one step of a request with ``choices``. The target stays masked."""

    def __init__(self, request: Request, tokens: SpecialTokens, device: torch.device) -> None:
        super().__init__(request, tokens.vocabulary_columns, device)
        assert isinstance(request.settings, ChoiceSettings)
        self._settings = request.settings
        self._tokens = tokens
        self._log_probabilities: Tensor | None = None  # of each choice, float64, not yet set against each other
        num_read = min(len(self.target), max(map(len, request.choices)) + 1)
        self._reads = torch.arange(num_read, device=device)

    @property
    def is_done(self) -> bool:
        """The step was run."""
        return self._log_probabilities is not None

    @property
    def step(self) -> int:
        """Always 0: there is one."""
        return 0

    @property
    def num_steps_run(self) -> int:
        """Forward passes so far, 0 or 1."""
        return int(self.is_done)

    def reads(self) -> Tensor:
        """As many positions as the longest choice has tokens, and the one after it, where an answer ends."""
        return self._reads

    def advance(self, logits: Sequence[Tensor | None]) -> StepTrace:
        """Look up each choice."""
        guided_MV = self._guide(logits)
        self.look_at(extent_of(guided_MV))
        guided_MV = guided_MV.double()
        log_p_MV = guided_MV.log_softmax(-1)
        ends = torch.tensor([self._tokens.answer_end, self._tokens.end_of_text], device=guided_MV.device)
        log_end_M = log_p_MV[:, ends].logsumexp(-1)
        self._log_probabilities = torch.stack([self._of(ids, log_p_MV, log_end_M) for ids in self.request.choices])
        best_M = guided_MV.argmax(-1)
        return StepTrace(
            step=0,
            read=self._reads,
            logits=guided_MV,
            sampled_ids=best_M,
            confidence=log_p_MV.gather(1, best_M[:, None])[:, 0].exp(),
            committed=self._reads[:0],
        )

    def probabilities(self) -> tuple[float, ...]:
        """Of each choice, in the request's order; they add up to 1."""
        assert self._log_probabilities is not None
        return tuple(self._fetch(self._log_probabilities.softmax(0)))

    def _of(self, ids: tuple[int, ...], log_p_MV: Tensor, log_end_M: Tensor) -> Tensor:
        places = self._reads[: len(ids)]
        total = log_p_MV[places, torch.tensor(ids, device=log_p_MV.device)].sum()
        return total if len(ids) == len(self.target) else total + log_end_M[len(ids)]

    def _guide(self, logits: Sequence[Tensor | None]) -> Tensor:
        cond_MV, *others = (part_MV for part_MV in logits if part_MV is not None)
        return guide_text(cond_MV, others[0], self._settings.cfg_scale) if others else cond_MV
