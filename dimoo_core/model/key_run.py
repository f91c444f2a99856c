"""Neighbouring streams of a batch whose keys lie in one tensor: what one attention call may serve.

Dimensions: T packed tokens, C computed tokens of a run, K keys, G key/value heads, D width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from dimoo_core.model.attention import PackedLayout
from dimoo_core.model.kv_pool import KeyValuePool, KeyValueSlab


@dataclass(frozen=True, slots=True, eq=False)
class StreamPart:
    """How much of a stream is in a batch, and where its keys are kept; ``positions_C`` None: all are computed."""

    num_computed: int
    num_read: int
    slab: KeyValueSlab | None
    positions_C: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class KeyRun:
    """Keys are those of the batch itself, or a pool's, where ``rows_C`` says which row each computed token renews.

    ``tokens`` and ``reads`` say which part of the token axis, and of the axis of positions that are read, is theirs.
    """

    tokens: slice
    reads: slice
    layout: PackedLayout
    read_layout: PackedLayout
    pool: KeyValuePool | None = None
    rows_C: Tensor | slice | None = None

    def exchange(self, layer: int, k_TGD: Tensor, v_TGD: Tensor) -> tuple[Tensor, Tensor]:
        """Put fresh keys and values where they are kept, and return those that the run's streams see, uncopied."""
        k_CGD, v_CGD = k_TGD[self.tokens], v_TGD[self.tokens]
        if self.pool is None:
            return k_CGD, v_CGD
        keys_PGD, values_PGD = self.pool.keys_LPGD[layer], self.pool.values_LPGD[layer]
        keys_PGD[self.rows_C] = k_CGD
        values_PGD[self.rows_C] = v_CGD
        return keys_PGD, values_PGD


def key_runs(parts: Sequence[StreamPart], device: torch.device) -> tuple[KeyRun, ...]:
    """The runs of a batch's streams, in their order."""
    runs: list[KeyRun] = []
    first_token = first_read = 0
    for _, group in groupby(parts, key=lambda part: -1 if part.slab is None else part.slab.pool.number):
        run = list(group)
        slabs = [part.slab for part in run if part.slab is not None]
        num_computed, num_read = [part.num_computed for part in run], [part.num_read for part in run]
        num_keys = [part.num_computed if part.slab is None else len(part.slab) for part in run]
        starts = tuple(slab.start for slab in slabs) or None
        tokens = slice(first_token, first_token + sum(num_computed))
        reads = slice(first_read, first_read + sum(num_read))
        runs.append(
            KeyRun(
                tokens=tokens,
                reads=reads,
                layout=PackedLayout.of_lengths(num_computed, num_keys, starts),
                read_layout=PackedLayout.of_lengths(num_read, num_keys, starts),
                pool=slabs[0].pool if slabs else None,
                rows_C=_rows(run, slabs, device) if slabs else None,
            )
        )
        first_token, first_read = tokens.stop, reads.stop
    return tuple(runs)


def _rows(parts: Sequence[StreamPart], slabs: Sequence[KeyValueSlab], device: torch.device) -> Tensor | slice:
    if len(parts) == 1 and parts[0].positions_C is None:
        return slice(slabs[0].start, slabs[0].start + len(slabs[0]))
    rows = [
        torch.arange(slab.start, slab.start + len(slab), device=device)
        if part.positions_C is None
        else part.positions_C + slab.start
        for part, slab in zip(parts, slabs, strict=True)
    ]
    return torch.cat(rows)
