"""Parallel decoding of an image: sample the masked positions, keep the most confident, mask the rest again.

Source: ``generate_image`` and ``generate_i2i`` of the reference (MaskGIT). Dimensions: M positions that are read, V
codes, N target positions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimoo_core.decoding.base import Decoding, Scope, StepTrace
from dimoo_core.decoding.guidance import ImageGuidance
from dimoo_core.decoding.lookahead import PassPlan, foreseen, num_looked_at, without_rows
from dimoo_core.decoding.sampling import (
    cosine_keep_counts,
    entropy_of,
    expected_log_probability,
    extent_of,
    gumbel_max_sample,
    left_counts,
    most_confident,
    num_within_entropy,
    parted,
    probability_of,
    stays_masked,
)
from dimoo_core.request.request import Request
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import ImageSettings, TargetCacheConfig


class ImageDecoding(Decoding):
    """An image in progress. A target that is partly known is inpainted: known codes are never touched."""

    def __init__(self, request: Request, tokens: SpecialTokens, device: torch.device) -> None:
        super().__init__(request, tokens.image_columns, device)
        assert isinstance(request.settings, ImageSettings)
        self._settings = settings = request.settings
        self._tokens = tokens
        self._step = self._num_steps_run = 0
        self._masked = self._find_masked()
        self._keep_counts = cosine_keep_counts(len(self._masked), settings.num_steps)
        self._left_counts = left_counts(self._keep_counts, len(self._masked))
        self._guidance = ImageGuidance(request, settings, device)
        self._focus = settings.step_cache if isinstance(settings.step_cache, TargetCacheConfig) else None
        self._plan = PassPlan(settings.num_steps, len(self._masked), self._focus)
        self._expected_N = torch.zeros(len(self.target), device=device)
        self._rows: Tensor | None = None  # of the masked positions, those that the next step reads; None: not chosen
        self._confidence_noise: Tensor | None = None
        self._undone: list[list[Tensor]] = [[] for _ in request.sequences]  # decided since a sequence was computed

    @property
    def is_done(self) -> bool:
        """Nothing is masked any more, or every step was run."""
        return len(self._masked) == 0 or self._step == self._settings.num_steps

    @property
    def step(self) -> int:
        """Number of the next step."""
        return self._step

    @property
    def num_steps_run(self) -> int:
        """Forward passes so far; a run may end early when nothing is masked."""
        return self._num_steps_run

    def reads(self) -> Tensor:
        """Every masked position, or those that the step is about to decide."""
        return self._masked if self._plan.kind != "some" else self._masked[self._chosen_rows()]

    def due(self) -> list[int]:
        """The conditional sequence; the others at refreshes and at every ``uncond_interval``-th step since."""
        since = self._plan.since_refresh if self._focus else self._num_steps_run
        is_due = since % self._settings.uncond_interval == 0
        return [index for index, sequence in enumerate(self.request.sequences) if is_due or sequence.role == "cond"]

    def scope(self, sequence: int) -> Scope | None:
        """What is read, and what was decided since the sequence was last computed."""
        if self._plan.kind == "all":
            return None
        if self._plan.kind == "target":
            return Scope(torch.arange(len(self.target), device=self.target.device), has_suffix=True)
        return Scope(torch.cat((*self._undone[sequence], self.reads())).sort().values, has_suffix=False)

    def is_reused(self) -> bool:
        """Whether a later step computes less than everything."""
        return self._plan.is_reused_after(self._step)

    def num_bytes(self) -> int:
        """Memory of the differences that sequences made to guidance."""
        return self._guidance.num_bytes(self.columns.stop - self.columns.start)

    def advance(self, logits: Sequence[Tensor | None]) -> StepTrace:
        """Sample the positions that are read, commit the confident ones."""
        step, reads_M = self._step, self.reads()
        cond_MV = logits[0]
        assert cond_MV is not None
        guided_MV = self._guidance.combine(logits, reads_M)
        self.look_at(self._extent(guided_MV))
        codes_M = gumbel_max_sample(guided_MV, self._settings.temperature, self._sample_noise(guided_MV))
        confidence_M = probability_of(guided_MV, codes_M)
        sampled_M = codes_M + self._tokens.image_offset
        if self._focus is not None:
            self._expected_N[reads_M] = expected_log_probability(guided_MV, self._settings.temperature)
        sure_M = self._sure(cond_MV, guided_MV, codes_M)
        if self._plan.kind == "some":
            committed = self._commit_some(reads_M, sampled_M, confidence_M, sure_M)
        else:
            committed = self._commit(reads_M, sampled_M, confidence_M, sure_M)
        for sequence in range(len(self._undone)):
            self._undone[sequence] = [*(() if logits[sequence] is not None else self._undone[sequence]), committed]
        self._num_steps_run += 1
        self._step = self._next_step()
        self._plan.advance(self._step, len(committed))
        self._rows = self._confidence_noise = None
        return StepTrace(
            step=step,
            read=reads_M,
            logits=guided_MV,
            sampled_ids=sampled_M,
            confidence=confidence_M,
            committed=committed,
        )

    def _extent(self, guided_MV: Tensor) -> Tensor:
        """Of everything that sampling makes of the logits: divided by temperatures, less the largest of a row."""
        return extent_of(guided_MV) * (2 / min(1.0, self._settings.temperature or 1.0))

    def _commit(self, masked_M: Tensor, sampled_M: Tensor, confidence_M: Tensor, sure_M: Tensor | None) -> Tensor:
        """Leave the least confident of all masked positions masked, but for the confident ones."""
        keep_count, temperature = self._keep_counts[self._step], self._settings.temperature
        stays_M = stays_masked(confidence_M, keep_count, temperature, self._noise_of_confidence())
        if sure_M is not None:
            stays_M &= ~sure_M
        self.target[masked_M] = torch.where(stays_M, self._tokens.mask, sampled_M)
        committed, self._masked = parted(masked_M, stays_M, self._fetch_number)
        return committed

    def _commit_some(self, reads_M: Tensor, sampled_M: Tensor, confidence_M: Tensor, sure_M: Tensor | None) -> Tensor:
        """Commit the most confident of the positions looked at: as many as scheduled, and all confident ones."""
        rows = self._chosen_rows()
        uniform_M = self._noise_of_confidence()[rows]
        chosen = most_confident(confidence_M, self._num_decided(), self._settings.temperature, uniform_M)
        if sure_M is not None:
            stays_M = ~sure_M.index_fill(0, chosen, True)
            chosen, _ = parted(torch.arange(len(sure_M), device=sure_M.device), stays_M, self._fetch_number)
        committed = reads_M[chosen]
        self.target[committed] = sampled_M[chosen]
        self._masked = without_rows(self._masked, rows[chosen], len(self.target))
        return committed

    def _sure(self, cond_MV: Tensor, guided_MV: Tensor, codes_M: Tensor) -> Tensor | None:
        """Which positions are decided beside the step's share of the schedule; None without a rule for that.

        Sure is what is so with guidance and without it, which makes distributions sharper than the model believes, at
        the temperature of the request; at temperatures below 1, which do so too, at 1.
        """
        commit, temperature = self._settings.commit, self._settings.temperature
        if commit is None:
            return None
        distributions = [guided_MV] if cond_MV is guided_MV else [guided_MV, cond_MV]
        if temperature > 1:
            distributions = [logits_MV / temperature for logits_MV in distributions]
        probability_M = torch.stack([probability_of(logits_MV, codes_M) for logits_MV in distributions]).amin(0)
        if commit.rule == "confidence":
            return probability_M >= commit.bound
        entropies = [entropy_of(logits_MV) for logits_MV in distributions]
        entropy_M = torch.stack((*entropies, -probability_M.clamp_min(1e-30).log())).amax(0)
        count = num_within_entropy(entropy_M, probability_M, commit.bound)
        sure_M = torch.zeros_like(probability_M, dtype=torch.bool)
        if count > self._num_decided():  # else the schedule decides as many; one is within any bound
            sure_M[probability_M.topk(count).indices] = True
        return sure_M

    def _next_step(self) -> int:
        """The next one; where more was decided than the schedule asks for, the next one that would leave less."""
        step = self._step + 1
        if self._settings.commit is not None and len(self._masked):
            while self._left_counts[step] >= len(self._masked):
                step += 1
        return step

    def _num_decided(self) -> int:
        """Positions that the step decides; at least one, as in the reference."""
        return max(1, len(self._masked) - self._keep_counts[self._step])

    def _chosen_rows(self) -> Tensor:
        if self._rows is None:
            assert self._focus is not None
            count = num_looked_at(len(self._masked), self._num_decided(), self._focus)
            expected_M = self._expected_N[self._masked]
            self._rows = foreseen(expected_M, self._noise_of_confidence(), self._settings.temperature, count)
        return self._rows

    def _noise_of_confidence(self) -> Tensor:
        """Noise of every masked position, drawn once per step."""
        if self._confidence_noise is None:
            shape = (len(self._masked),)
            self._confidence_noise = self.request.noise.uniform(
                self._step, "confidence", shape, rows=None, dtype=torch.float32
            )
        return self._confidence_noise

    def _sample_noise(self, guided_MV: Tensor) -> Tensor | None:
        if self._settings.temperature == 0:
            return None
        shape = (len(self._masked), guided_MV.shape[-1])
        rows = self._chosen_rows() if self._plan.kind == "some" else None
        return self.request.noise.uniform(self._step, "sample", shape, rows=rows, dtype=torch.float32)

    def vq_codes(self) -> Tensor:
        """The finished image's codes, (rows, columns) on the CPU; every row of the target ends with a newline."""
        target = torch.tensor(self._fetch(self.target))
        is_newline = target == self._tokens.newline
        num_rows = int(is_newline.sum())
        return target[~is_newline].view(num_rows, -1) - self._tokens.image_offset

    def _find_masked(self) -> Tensor:
        return (self.target == self._tokens.mask).nonzero().squeeze(-1)
