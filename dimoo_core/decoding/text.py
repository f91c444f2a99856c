"""Block-wise decoding of an answer: at each step the most confident masked positions of the block are decided.

Source: ``generate_text_understanding`` of the reference (LLaDA). Differences: the reference's early stop raises a
NameError and knows end-of-text only; here an answer stops at the end of a block that holds ``</answer>`` or
end-of-text, and steps that decide nothing run no forward pass. Dimensions: A active positions, E
positions up to the end of a block, V columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimoo_core.decoding.base import Decoding, Scope, StepTrace
from dimoo_core.decoding.guidance import guide_text
from dimoo_core.decoding.sampling import (
    entropy_of,
    even_transfer_counts,
    extent_of,
    noisy_text_scores,
    num_within_entropy,
    parted,
    probability_of,
)
from dimoo_core.request.request import FinishReason, Request, SequenceRole
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import TextSettings


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
        self._num_run_in_block = 0
        self._stale_start = 0  # first position whose id may have changed since it was computed
        self._is_stopped = False
        self._is_given = self.target != tokens.mask
        self._prompt_holds_end = bool((torch.cat(self._around[0]) == tokens.end_of_text).any())
        self._enter_block()
        self._skip_idle_steps()
        self._active = self._find_active()

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
        return self._active

    def scope(self, sequence: int) -> Scope | None:
        """At most the block and what follows it, if a cache has the rest."""
        del sequence
        cache, length = self._settings.cache, self._settings.block_length
        if cache is None or cache.refresh_interval == 1 or self._num_steps_run == 0:
            return None
        start, end, device = self._block * length, len(self.target), self.target.device
        if self._num_run_in_block == 0:
            if cache.prompt_interval and self._block % cache.prompt_interval == 0:
                return None
            start = min(start, self._stale_start)
        elif cache.refresh_interval and self._num_run_in_block % cache.refresh_interval == 0:
            return None
        elif cache.mode == "dual":
            return Scope(torch.arange(start, start + length, device=device), has_suffix=False)
        return Scope(torch.arange(start, end, device=device), has_suffix=True)

    def peak_tokens(self) -> int:
        """The answer and what follows it, where the prompt is not computed again; else everything."""
        cache = self._settings.cache
        if cache is None or cache.prompt_interval or cache.refresh_interval or self._num_steps_run == 0:
            return super().peak_tokens()
        return sum(len(self.target) + len(suffix) for _, suffix in self._around)

    def is_reused(self) -> bool:
        """Whether a later step may compute less than everything."""
        return self._settings.cache is not None and self._settings.cache.refresh_interval != 1

    def advance(self, logits: Sequence[Tensor | None]) -> StepTrace:
        """Decide the step's share of the block's masked positions."""
        settings, step, active_A = self._settings, self.step, self._active
        guided_AV = self._guide(logits)
        scores_AV = noisy_text_scores(guided_AV, settings.temperature, self._sample_noise(step, guided_AV))
        sampled_A = scores_AV.argmax(-1)
        self.look_at(extent_of(guided_AV), extent_of(scores_AV.gather(-1, sampled_A[:, None])))
        confidence_A = self._confidence(step, guided_AV, sampled_A)
        chosen = confidence_A.topk(self._num_decided(guided_AV, sampled_A, confidence_A)).indices.sort().values
        committed = active_A[chosen]
        self.target[committed] = sampled_A[chosen]
        self._num_left -= len(committed)
        self._num_steps_run += 1
        self._num_run_in_block += 1
        self._step_in_block += 1
        self._stale_start = self._block * settings.block_length
        self._skip_idle_steps()
        self._active = self._find_active()
        return StepTrace(
            step=step,
            read=active_A,
            logits=guided_AV,
            sampled_ids=sampled_A,
            confidence=confidence_A,
            committed=committed,
        )

    def _target_of(self, role: SequenceRole) -> Tensor:
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

    def _guide(self, logits: Sequence[Tensor | None]) -> Tensor:
        cond_AV, *others = (part_AV for part_AV in logits if part_AV is not None)
        return guide_text(cond_AV, others[0], self._settings.cfg_scale) if others else cond_AV

    def _num_decided(self, guided_AV: Tensor, sampled_A: Tensor, confidence_A: Tensor) -> int:
        """The step's share; more if the rule for parallel commits allows it."""
        share, commit = min(self._counts[self._step_in_block], len(confidence_A)), self._settings.commit
        if commit is None:
            return share
        if commit.rule == "confidence":
            return max(share, int((confidence_A >= commit.bound).sum()))
        return max(share, num_within_entropy(entropy_of(guided_AV.double()), confidence_A, commit.bound))

    def _find_active(self) -> Tensor:
        end = (self._block + 1) * self._settings.block_length
        is_known_E = self.target[:end] != self._tokens.mask
        positions_E = torch.arange(len(is_known_E), device=is_known_E.device)
        return parted(positions_E, is_known_E, self._fetch_number)[0]

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
        return self._active + len(self._around[0][0])

    def _block_ids(self) -> Tensor:
        length = self._settings.block_length
        return self.target[self._block * length : (self._block + 1) * length]

    def _enter_block(self) -> None:
        self._num_left = int((self._block_ids() == self._tokens.mask).sum())
        self._counts = even_transfer_counts(self._num_left, self._settings.steps_per_block)

    def _skip_idle_steps(self) -> None:
        """Move to the next step that decides something, closing blocks on the way."""
        while not self.is_done:
            while self._num_left and self._step_in_block < len(self._counts):
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
        self._step_in_block = self._num_run_in_block = 0
        if not self.is_done:
            self._enter_block()
