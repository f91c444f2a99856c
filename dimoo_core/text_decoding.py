"""Block-wise decoding of an answer: at each step the most confident masked positions of the block are decided.

Source: ``generate_text_understanding`` of the reference (LLaDA). Differences: the reference's early stop raises a
NameError and knows end-of-text only; here an answer stops at the end of a block that holds ``</answer>`` or
end-of-text, and steps that decide nothing run no forward pass. Dimensions: A active positions, V columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimoo_core.decoding import Decoding, StepTrace
from dimoo_core.request import FinishReason, Request, StreamRole
from dimoo_core.sampling import guide_text, noisy_text_scores, probability_of
from dimoo_core.schedule import even_transfer_counts
from dimoo_core.settings import TextSettings
from dimoo_core.tokens import SpecialTokens


class TextDecoding(Decoding):
    """An answer in progress, one block after the other."""

    def __init__(self, request: Request, tokens: SpecialTokens, device: torch.device) -> None:
        super().__init__(request, tokens.vocabulary_columns, device)
        assert isinstance(request.settings, TextSettings)
        self._settings = request.settings
        self._tokens = tokens
        self._block = 0
        self._step_in_block = 0
        self._num_steps_run = 0
        self._is_stopped = False
        self._is_given = self.target != tokens.mask
        self._prompt_holds_end = bool((torch.cat(self._around[0]) == tokens.end_of_text).any())
        self._counts = self._transfer_counts()
        self._skip_idle_steps()

    @property
    def is_done(self) -> bool:
        """Every block is decided, or the answer has ended."""
        return self._is_stopped or self._block == self._settings.num_blocks

    @property
    def num_steps_run(self) -> int:
        """Forward passes so far."""
        return self._num_steps_run

    @property
    def step(self) -> int:
        """Number of the next step, counting those that decide nothing."""
        return self._block * self._settings.steps_per_block + self._step_in_block

    def reads(self) -> Tensor:
        """Masked positions up to the end of the present block."""
        end = (self._block + 1) * self._settings.block_length
        return (self.target[:end] == self._tokens.mask).nonzero().squeeze(-1)

    def advance(self, logits: Sequence[Tensor]) -> StepTrace:
        """Decide the step's share of the block's masked positions."""
        settings, step, active_A = self._settings, self.step, self.reads()
        guided_AV = logits[0] if len(logits) == 1 else guide_text(logits[0], logits[1], settings.cfg_scale)
        sampled_A = noisy_text_scores(guided_AV, settings.temperature, self._sample_noise(step, guided_AV)).argmax(-1)
        confidence_A = self._confidence(step, guided_AV, sampled_A)
        chosen = confidence_A.topk(min(self._counts[self._step_in_block], len(active_A))).indices.sort().values
        committed = active_A[chosen]
        self.target[committed] = sampled_A[chosen]
        self._num_steps_run += 1
        self._step_in_block += 1
        self._skip_idle_steps()
        return StepTrace(
            step=step,
            read=active_A,
            logits=guided_AV,
            sampled_ids=sampled_A,
            confidence=confidence_A,
            committed=committed,
        )

    def _target_of(self, role: StreamRole) -> Tensor:
        """Guidance masks whatever was given, also within the answer; only what was decided since is seen."""
        if role == "uncond":
            return self.target.masked_fill(self._is_given, self._tokens.mask)
        return self.target

    def answer(self) -> tuple[tuple[int, ...], FinishReason]:
        """Ids before the first end token among the finished blocks, and why the answer ends there."""
        finished: list[int] = self.target[: self._block * self._settings.block_length].tolist()
        ends = (self._tokens.answer_end, self._tokens.end_of_text)
        for position, token_id in enumerate(finished):
            if token_id in ends:
                return tuple(finished[:position]), "stop"
        return tuple(finished), "length"

    def _sample_noise(self, step: int, guided_AV: Tensor) -> Tensor | None:
        if self._settings.temperature == 0:
            return None
        shape, rows = (self._sequence_length(), guided_AV.shape[-1]), self._sequence_positions()
        return self.request.noise.uniform(step, "sample", shape, rows=rows, dtype=torch.float64)

    def _confidence(self, step: int, guided_AV: Tensor, sampled_A: Tensor) -> Tensor:
        if self._settings.remasking == "low_confidence":
            return probability_of(guided_AV.double(), sampled_A)
        shape, rows = (self._sequence_length(),), self._sequence_positions()
        return self.request.noise.uniform(step, "confidence", shape, rows=rows, dtype=torch.float32)

    def _sequence_length(self) -> int:
        prefix, suffix = self._around[0]
        return len(prefix) + len(self.target) + len(suffix)

    def _sequence_positions(self) -> Tensor:
        return self.reads() + len(self._around[0][0])

    def _block_ids(self) -> Tensor:
        length = self._settings.block_length
        return self.target[self._block * length : (self._block + 1) * length]

    def _transfer_counts(self) -> list[int]:
        num_masked = int((self._block_ids() == self._tokens.mask).sum())
        return even_transfer_counts(num_masked, self._settings.steps_per_block)

    def _skip_idle_steps(self) -> None:
        """Move to the next step that decides something, closing blocks on the way."""
        while not self.is_done:
            while self._step_in_block < len(self._counts):
                if self._counts[self._step_in_block]:
                    return
                self._step_in_block += 1
            self._close_block()

    def _close_block(self) -> None:
        """Stop if the answer has ended; the reference looks for end-of-text in the whole sequence, prompt included."""
        holds_end = (self.target == self._tokens.end_of_text).any() | (
            self._block_ids() == self._tokens.answer_end
        ).any()
        self._is_stopped = self._prompt_holds_end or bool(holds_end)
        self._block += 1
        self._step_in_block = 0
        if not self.is_done:
            self._counts = self._transfer_counts()
