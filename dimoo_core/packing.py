"""Laying streams side by side on one token axis, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dimoo_core.attention import PackedLayout
from dimoo_core.key_run import KeyRun, StreamPart, key_runs
from dimoo_core.key_value_slab import KeyValueSlab


@dataclass(frozen=True, slots=True)
class StreamView:
    """One stream as it stands now: the ids that are computed, and which of them have their logits read.

    ``read_R`` are ascending indices into ``ids_T``. With a slab, keys and values go through the step cache;
    ``positions_T`` says which positions of the stream the ids are, None for all.
    """

    ids_T: Tensor
    read_R: Tensor
    positions_T: Tensor | None = None
    slab: KeyValueSlab | None = None

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Keys, computed tokens and positions that are read."""
        num_computed = len(self.ids_T)
        return num_computed if self.slab is None else len(self.slab), num_computed, len(self.read_R)

    def part(self) -> StreamPart:
        """How much of it there is, and where its keys are kept."""
        return StreamPart(len(self.ids_T), len(self.read_R), self.slab, self.positions_T)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Streams side by side on one token axis, and the positions whose final hidden state is wanted.

    ``read_R`` holds ascending indices into the token axis; ``read_layout`` counts them a stream. ``runs`` are the
    streams once more, by where their keys lie: those that keep some have more keys than tokens in this batch.
    ``distinct`` are tokens of which no two have the same id, and which of these each token is like: before positions
    come in, the first layer's projections depend on the id alone, and many ids are the mask or stand in several
    streams. None where ids are unknown: every token is projected.
    """

    ids_T: Tensor
    positions_T: Tensor
    layout: PackedLayout
    read_R: Tensor
    read_layout: PackedLayout
    runs: tuple[KeyRun, ...]
    distinct: tuple[Tensor, Tensor] | None = None


def pack(streams: Sequence[StreamView], device: torch.device) -> PackedBatch:
    """Concatenate streams in the order given; positions count from 0 in each.

    Raises:
        ValueError: If there is no stream.
    """
    if not streams:
        raise ValueError("cannot pack a batch without streams")
    key_lengths, lengths, read_lengths = zip(*(stream.lengths for stream in streams), strict=True)
    layout = PackedLayout.of_lengths(lengths, key_lengths)
    read_R = torch.cat([stream.read_R + start for stream, start in zip(streams, layout.query_offsets, strict=False)])
    ids_T = torch.cat([stream.ids_T for stream in streams]).to(device)
    return PackedBatch(
        ids_T=ids_T,
        positions_T=torch.cat([_positions(stream, device) for stream in streams]),
        layout=layout,
        read_R=read_R.to(device),
        read_layout=PackedLayout.of_lengths(read_lengths, key_lengths),
        runs=key_runs([stream.part() for stream in streams], device),
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


def _positions(stream: StreamView, device: torch.device) -> Tensor:
    if stream.positions_T is not None:
        return stream.positions_T
    return torch.arange(len(stream.ids_T), device=device)


def read_everything(ids_T: Tensor) -> StreamView:
    """A stream of which every position is read."""
    return StreamView(ids_T, torch.arange(len(ids_T), device=ids_T.device))
