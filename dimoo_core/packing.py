"""Laying streams side by side on one token axis, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dimoo_core.attention import PackedLayout
from dimoo_core.transformer import PackedBatch


@dataclass(frozen=True, slots=True)
class StreamView:
    """One stream as it stands now: its ids, and the ascending positions whose logits are read."""

    ids_T: Tensor
    read_R: Tensor


def pack(streams: Sequence[StreamView], device: torch.device) -> PackedBatch:
    """Concatenate streams in the order given; positions restart at 0 in each.

    Raises:
        ValueError: If there is no stream.
    """
    if not streams:
        raise ValueError("cannot pack a batch without streams")
    lengths = [len(stream.ids_T) for stream in streams]
    read_lengths = [len(stream.read_R) for stream in streams]
    layout = PackedLayout.of_lengths(lengths, lengths)
    read_R = torch.cat([stream.read_R + start for stream, start in zip(streams, layout.key_offsets, strict=False)])
    return PackedBatch(
        ids_T=torch.cat([stream.ids_T for stream in streams]).to(device),
        positions_T=torch.cat([torch.arange(length, device=device) for length in lengths]),
        layout=layout,
        read_R=read_R.to(device),
        read_layout=PackedLayout.of_lengths(read_lengths, lengths),
    )


def read_everything(ids_T: Tensor) -> StreamView:
    """A stream of which every position is read."""
    return StreamView(ids_T, torch.arange(len(ids_T), device=ids_T.device))
