"""Caches of keys and values over the steps of one request.

``StepCache`` is the reference's ML-Cache: some steps compute every position (refreshes), the others only those whose
best image logit was lowest at the step before; everywhere else keys, values and logits are those of the last time they
were computed. It holds, for each sequence, rotated keys and values of every layer, the score of every position, and the
image logits of the target, never those of the whole vocabulary. ``ScopedCache`` leaves to the decoding which positions
each step computes; logits are read only where they are fresh, so it keeps none.

Source: ``generate_image`` with ``use_cache``, and the caches of ``LLaDABlock`` and ``LLaDAModel`` in the reference.
Dimensions: L layers, T tokens of a sequence, C computed positions, G key/value heads, D width of a head, N target
positions, M masked positions, V image codes.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dimoo_core.decoding.base import Decoding
from dimoo_core.decoding.sampling import extent_of
from dimoo_core.model.kv_pool import KVAllocator, KVBlock
from dimoo_core.settings import ChoiceSettings, ImageSettings, StepCacheConfig


def refresh_steps(num_steps: int, config: StepCacheConfig) -> frozenset[int]:
    """Steps that compute every position: 0 to ``int(num_steps * warmup_ratio)``, then one in ``refresh_interval``."""
    warmup = int(num_steps * config.warmup_ratio)
    return frozenset(
        step for step in range(num_steps) if step <= warmup or (step - warmup) % config.refresh_interval == 0
    )


def positions_to_compute(scores_T: Tensor, reuse_ratio: float) -> Tensor:
    """Ascending positions whose score is at most the interpolated ``1 - reuse_ratio`` quantile, in float32."""
    threshold = torch.quantile(scores_T.float(), 1 - reuse_ratio)
    return (scores_T <= threshold).nonzero().squeeze(-1)


@dataclass(slots=True, eq=False)
class _SequenceState:
    """One sequence between steps; ``positions_C`` None means that the next step computes all."""

    length: int
    target_start: int
    block: KVBlock | None = None
    scores_T: Tensor | None = None
    logits_NV: Tensor | None = None
    positions_C: Tensor | None = None
    extent: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CachePlan:
    """What one step computes of one sequence.

    ``positions_C`` None means every position. ``read_R`` are ascending indices into the computed positions. ``block``
    None: nothing is taken from the cache and nothing is kept.
    """

    positions_C: Tensor | None
    read_R: Tensor
    block: KVBlock | None


class RequestCache(ABC):
    """What a request keeps of its earlier steps. Steps are taken in order: ``plan`` of each sequence, then ``update``.

    A step that was planned by ``part`` and not run, for want of memory, may be planned again.
    """

    @abstractmethod
    def num_tokens(self) -> int:
        """Tokens that the next step computes, all sequences together."""

    @abstractmethod
    def num_bytes(self) -> int:
        """Memory that it takes once all of it is allocated; known before the first step."""

    @abstractmethod
    def plan(self, sequence: int, step: int, reads_M: Tensor) -> CachePlan:
        """What this step computes of a sequence.

        Args:
            sequence: Its index in the request.
            step: Counted from 0.
            reads_M: Ascending target positions whose logits are sampled from.
        """

    @abstractmethod
    def update(self, sequence: int, step: int, plan: CachePlan, logits_RV: Tensor, reads_M: Tensor) -> Tensor:
        """Take in what the step computed of a sequence.

        Returns:
            Logits at ``reads_M``, fresh or kept, (M, V) float32.
        """


class StepCache(RequestCache):
    """The reference's cache, position for position.

    Args:
        sequences: Length of each sequence, and where the target begins in it.
        num_target: Positions of the target.
    """

    def __init__(
        self,
        settings: ImageSettings,
        blocks: KVAllocator,
        sequences: list[tuple[int, int]],
        num_target: int,
        num_columns: int,
    ) -> None:
        assert isinstance(settings.step_cache, StepCacheConfig)
        self._config = settings.step_cache
        self._num_steps = settings.num_steps
        self._refreshes = refresh_steps(settings.num_steps, settings.step_cache)
        self._blocks = blocks
        self._sequences = [_SequenceState(length, target_start) for length, target_start in sequences]
        self._num_target = num_target
        self._num_columns = num_columns
        self._device = blocks.device

    def num_tokens(self) -> int:
        """See ``RequestCache``."""
        return sum(s.length if s.positions_C is None else len(s.positions_C) for s in self._sequences)

    def num_bytes(self) -> int:
        """See ``RequestCache``."""
        if len(self._refreshes) == self._num_steps:
            return 0
        num_tokens = sum(state.length for state in self._sequences)
        kept = num_tokens + len(self._sequences) * self._num_target * self._num_columns  # float32 scores and logits
        return self._blocks.bytes_for(num_tokens) + kept * torch.float32.itemsize

    def positions(self, sequence: int) -> Tensor | None:
        """What the next step computes of a sequence, None for all."""
        return self._sequences[sequence].positions_C

    def scores(self, sequence: int) -> Tensor | None:
        """Best image logit of each position as of its last computation, None if none were kept yet."""
        return self._sequences[sequence].scores_T

    def extents(self) -> list[Tensor]:
        """Of the logits that were scored last, of each sequence: the prompt's too decide what is computed."""
        return [state.extent for state in self._sequences if state.extent is not None]

    def plan(self, sequence: int, step: int, reads_M: Tensor) -> CachePlan:
        """See ``RequestCache``."""
        state, is_kept = self._sequences[sequence], self._is_kept(step)
        if state.positions_C is None and not is_kept:
            return CachePlan(None, reads_M + state.target_start, None)
        if state.block is None:
            state.block = self._blocks.block(state.length)
        num_computed = state.length if state.positions_C is None else len(state.positions_C)
        if is_kept:
            read_R = torch.arange(num_computed, device=self._device)
        else:
            assert state.positions_C is not None
            read_R = torch.isin(state.positions_C, reads_M + state.target_start).nonzero().squeeze(-1)
        return CachePlan(state.positions_C, read_R, state.block)

    def update(self, sequence: int, step: int, plan: CachePlan, logits_RV: Tensor, reads_M: Tensor) -> Tensor:
        """Keep what the step computed of a sequence, and decide what the next one computes."""
        state = self._sequences[sequence]
        if plan.block is None:
            return logits_RV
        positions_R = plan.read_R if plan.positions_C is None else plan.positions_C[plan.read_R]
        self._keep_logits(state, positions_R, logits_RV)
        assert state.logits_NV is not None
        state.positions_C = None
        if self._is_kept(step):
            if state.scores_T is None:
                state.scores_T = torch.empty(state.length, device=self._device)
            state.scores_T[positions_R] = logits_RV.amax(dim=-1)
            state.extent = extent_of(logits_RV)
            state.positions_C = positions_to_compute(state.scores_T, self._config.reuse_ratio)
        return state.logits_NV[reads_M]

    def _keep_logits(self, state: _SequenceState, positions_R: Tensor, logits_RV: Tensor) -> None:
        if state.logits_NV is None:
            state.logits_NV = torch.empty(self._num_target, logits_RV.shape[-1], device=self._device)
        place_R = positions_R - state.target_start
        is_target_R = (place_R >= 0) & (place_R < self._num_target)
        state.logits_NV[place_R[is_target_R]] = logits_RV[is_target_R]

    def _is_kept(self, step: int) -> bool:
        """Whether the step after this one takes anything from the cache."""
        return step + 1 < self._num_steps and step + 1 not in self._refreshes


class ScopedCache(RequestCache):
    """The cache of one request; allocated when its first step runs, whole."""

    def __init__(self, decoding: Decoding, blocks: KVAllocator) -> None:
        self._decoding = decoding
        self._allocator = blocks
        self._device = blocks.device
        request = decoding.request
        self._lengths = [
            len(sequence.around(request.target)) for sequence in request.sequences
        ]  # not the device's target
        self._blocks: dict[int, KVBlock] = {}
        self._num_bytes = blocks.bytes_for(sum(self._lengths)) if decoding.is_reused() else 0

    def num_tokens(self) -> int:
        """See ``RequestCache``."""
        return self._decoding.num_tokens()

    def num_bytes(self) -> int:
        """See ``RequestCache``."""
        return self._num_bytes

    def plan(self, sequence: int, step: int, reads_M: Tensor) -> CachePlan:
        """See ``RequestCache``."""
        del step  # the decoding knows
        sequences, scope = self._decoding.request.sequences, self._decoding.scope(sequence)
        first = len(sequences[sequence].prefix)
        if scope is None:
            block = self._block(sequence) if self._decoding.is_reused() else None
            return CachePlan(None, reads_M + first, block)
        positions_C = scope.target_C + first
        if scope.has_suffix:
            suffix = torch.arange(first + len(self._decoding.target), self._lengths[sequence], device=self._device)
            positions_C = torch.cat((positions_C, suffix))
        return CachePlan(positions_C, torch.searchsorted(scope.target_C, reads_M), self._block(sequence))

    def update(self, sequence: int, step: int, plan: CachePlan, logits_RV: Tensor, reads_M: Tensor) -> Tensor:
        """See ``RequestCache``."""
        del sequence, step, plan, reads_M
        return logits_RV

    def _block(self, sequence: int) -> KVBlock:
        if sequence not in self._blocks:
            self._blocks[sequence] = self._allocator.block(self._lengths[sequence])
        return self._blocks[sequence]


def cache_for(decoding: Decoding, blocks: KVAllocator) -> RequestCache | None:
    """The cache that a request's settings ask for, None where every step computes everything."""
    request, settings = decoding.request, decoding.request.settings
    if isinstance(settings, ChoiceSettings):
        return None
    config = settings.step_cache if isinstance(settings, ImageSettings) else settings.cache
    if config is None:
        return None
    if not isinstance(settings, ImageSettings) or not isinstance(config, StepCacheConfig):
        return ScopedCache(decoding, blocks)
    return StepCache(
        settings,
        blocks,
        [(len(sequence.around(request.target)), len(sequence.prefix)) for sequence in request.sequences],
        len(request.target),
        decoding.columns.stop - decoding.columns.start,
    )
