"""Sequences packed side by side on one token axis without padding, and runs of them that one attention call serves.

Dimensions: T packed tokens, C computed tokens of a run, K keys, G key/value heads, D width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from dimoo_core.model.attention import PackedLayout
from dimoo_core.model.kv_pool import KVBlock, KVPool


@dataclass(frozen=True, slots=True, eq=False)
class SequencePart:
    """How much of a sequence is in a batch, and where its keys are kept; ``positions_C`` None: all are computed."""

    num_computed: int
    num_read: int
    block: KVBlock | None
    positions_C: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class KeyRun:
    """Keys are those of the batch itself, or a pool's, where ``rows_C`` is the row that each computed token updates.

    ``tokens`` and ``reads`` are their parts of the token axis, and of the axis of positions that are read.
    """

    tokens: slice
    reads: slice
    layout: PackedLayout
    read_layout: PackedLayout
    pool: KVPool | None = None
    rows_C: Tensor | slice | None = None

    def exchange(self, layer: int, k_TGD: Tensor, v_TGD: Tensor) -> tuple[Tensor, Tensor]:
        """Put fresh keys and values where they are kept, and return those that the run's sequences see, uncopied."""
        k_CGD, v_CGD = k_TGD[self.tokens], v_TGD[self.tokens]
        if self.pool is None:
            return k_CGD, v_CGD
        keys_PGD, values_PGD = self.pool.keys_LPGD[layer], self.pool.values_LPGD[layer]
        keys_PGD[self.rows_C] = k_CGD
        values_PGD[self.rows_C] = v_CGD
        return keys_PGD, values_PGD


def key_runs(parts: Sequence[SequencePart], device: torch.device) -> tuple[KeyRun, ...]:
    """The runs of a batch's sequences, in their order."""
    runs: list[KeyRun] = []
    first_token = first_read = 0
    for _, group in groupby(parts, key=lambda part: -1 if part.block is None else part.block.pool.number):
        run = list(group)
        blocks = [part.block for part in run if part.block is not None]
        num_computed, num_read = [part.num_computed for part in run], [part.num_read for part in run]
        num_keys = [part.num_computed if part.block is None else len(part.block) for part in run]
        starts = tuple(block.start for block in blocks) or None
        tokens = slice(first_token, first_token + sum(num_computed))
        reads = slice(first_read, first_read + sum(num_read))
        runs.append(
            KeyRun(
                tokens=tokens,
                reads=reads,
                layout=PackedLayout.of_lengths(num_computed, num_keys, starts),
                read_layout=PackedLayout.of_lengths(num_read, num_keys, starts),
                pool=blocks[0].pool if blocks else None,
                rows_C=_rows(run, blocks, device) if blocks else None,
            )
        )
        first_token, first_read = tokens.stop, reads.stop
    return tuple(runs)


def _rows(parts: Sequence[SequencePart], blocks: Sequence[KVBlock], device: torch.device) -> Tensor | slice:
    if len(parts) == 1 and parts[0].positions_C is None:
        return slice(blocks[0].start, blocks[0].start + len(blocks[0]))
    rows = [
        torch.arange(block.start, block.start + len(block), device=device)
        if part.positions_C is None
        else part.positions_C + block.start
        for part, block in zip(parts, blocks, strict=True)
    ]
    return torch.cat(rows)


@dataclass(frozen=True, slots=True)
class SequenceView:
    """One sequence as it stands now: the ids that are computed, and which of them have their logits read.

    ``read_R`` are ascending indices into ``ids_T``. With a block, keys and values go through the step cache;
    ``positions_T`` are the positions of the ids in the sequence, None for all.
    """

    ids_T: Tensor
    read_R: Tensor
    positions_T: Tensor | None = None
    block: KVBlock | None = None

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Keys, computed tokens and positions that are read."""
        num_computed = len(self.ids_T)
        return num_computed if self.block is None else len(self.block), num_computed, len(self.read_R)

    def part(self) -> SequencePart:
        """How much of it there is, and where its keys are kept."""
        return SequencePart(len(self.ids_T), len(self.read_R), self.block, self.positions_T)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Sequences side by side on one token axis, and the positions whose final hidden state is wanted.

    ``read_R`` holds ascending indices into the token axis; ``read_layout`` counts them per sequence. ``runs`` are the
    same sequences, by where their keys are: those that keep some have more keys than tokens in this batch.
    ``distinct`` are tokens of which no two have the same id, and which of these each token is like: before positions
    come in, the first layer's projections depend on the id alone, and many ids are the mask or stand in several
    sequences. None where ids are unknown: every token is projected.
    """

    ids_T: Tensor
    positions_T: Tensor
    layout: PackedLayout
    read_R: Tensor
    read_layout: PackedLayout
    runs: tuple[KeyRun, ...]
    distinct: tuple[Tensor, Tensor] | None = None


def pack(sequences: Sequence[SequenceView], device: torch.device) -> PackedBatch:
    """Concatenate sequences in the order given; positions count from 0 in each.

    Raises:
        ValueError: If there is no sequence.
    """
    if not sequences:
        raise ValueError("cannot pack a batch without streams")
    key_lengths, lengths, read_lengths = zip(*(sequence.lengths for sequence in sequences), strict=True)
    layout = PackedLayout.of_lengths(lengths, key_lengths)
    read_R = torch.cat(
        [sequence.read_R + start for sequence, start in zip(sequences, layout.query_offsets, strict=False)]
    )
    ids_T = torch.cat([sequence.ids_T for sequence in sequences]).to(device)
    return PackedBatch(
        ids_T=ids_T,
        positions_T=torch.cat([_positions(sequence, device) for sequence in sequences]),
        layout=layout,
        read_R=read_R.to(device),
        read_layout=PackedLayout.of_lengths(read_lengths, key_lengths),
        runs=key_runs([sequence.part() for sequence in sequences], device),
        distinct=distinct_tokens(ids_T),
    )


def distinct_tokens(ids_T: Tensor) -> tuple[Tensor, Tensor] | None:
    """One token of each id, and which of these each token is like; None on the meta device, where ids are unknown.

    A device is waited for here, before it has anything to do, which costs less than the rows that are spared.
    """
    if ids_T.is_meta:
        return None
    distinct_U, place_T = torch.unique(ids_T, return_inverse=True)
    first_U = torch.empty_like(distinct_U).scatter_(0, place_T, torch.arange(len(ids_T), device=ids_T.device))
    return first_U, place_T


def _positions(sequence: SequenceView, device: torch.device) -> Tensor:
    if sequence.positions_T is not None:
        return sequence.positions_T
    return torch.arange(len(sequence.ids_T), device=device)


def read_everything(ids_T: Tensor) -> SequenceView:
    """A sequence of which every position is read."""
    return SequenceView(ids_T, torch.arange(len(ids_T), device=ids_T.device))
