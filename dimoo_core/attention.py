"""Attention over streams of any lengths that lie side by side on one token axis.

Dimensions: Q packed queries, K packed keys, H query heads, G key/value heads, D width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo_core.row_invariance import RowPolicy


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """Where each stream's queries and keys lie on the packed token axis.

    ``query_offsets`` and ``key_offsets`` have ``num_streams + 1`` entries, starting at 0. Queries may be fewer than
    keys: in the last layer only the positions whose logits are read ask anything.
    """

    query_offsets: tuple[int, ...]
    key_offsets: tuple[int, ...]
    _on_device: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of_lengths(cls, query_lengths: Sequence[int], key_lengths: Sequence[int]) -> "PackedLayout":
        """Layout of streams with these numbers of queries and keys, in this order."""
        return cls(tuple(accumulate(query_lengths, initial=0)), tuple(accumulate(key_lengths, initial=0)))

    def spans(self) -> list[tuple[slice, slice]]:
        """Query slice and key slice of each stream."""
        queries = [slice(start, end) for start, end in pairwise(self.query_offsets)]
        keys = [slice(start, end) for start, end in pairwise(self.key_offsets)]
        return list(zip(queries, keys, strict=True))

    @property
    def max_num_queries(self) -> int:
        """Queries of the longest stream."""
        return max(end - start for start, end in pairwise(self.query_offsets))

    @property
    def max_num_keys(self) -> int:
        """Keys of the longest stream."""
        return max(end - start for start, end in pairwise(self.key_offsets))

    def offsets_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Both offset lists as int32 tensors, copied to ``device`` once."""
        if device not in self._on_device:
            self._on_device[device] = (
                torch.tensor(self.query_offsets, dtype=torch.int32).to(device, non_blocking=True),
                torch.tensor(self.key_offsets, dtype=torch.int32).to(device, non_blocking=True),
            )
        return self._on_device[device]


def packed_attention(q_QHD: Tensor, k_KGD: Tensor, v_KGD: Tensor, layout: PackedLayout, policy: RowPolicy) -> Tensor:
    """Bidirectional attention of each stream's queries over that stream's keys alone.

    On CUDA in half precision one variable-length kernel serves all streams; elsewhere each stream is one call of
    ``scaled_dot_product_attention``, so its result cannot depend on its neighbours.

    Args:
        q_QHD: Rotated queries of all streams.
        k_KGD: Rotated keys of all streams; H must be a multiple of G.
        v_KGD: Values of all streams.
        layout: Which queries and keys belong together.
        policy: Fewest query rows to compute at a time on a CPU.

    Returns:
        One row a query, in the order of ``q_QHD``, shape (Q, H, D).
    """
    if q_QHD.is_cuda and q_QHD.dtype != torch.float32:  # the variable-length kernel knows half precision only
        return _varlen_attention(q_QHD, k_KGD, v_KGD, layout, policy)
    out_QHD = torch.empty_like(q_QHD)
    for queries, keys in layout.spans():
        if queries.start < queries.stop:
            out_QHD[queries] = _stream_attention(q_QHD[queries], k_KGD[keys], v_KGD[keys], policy)
    return out_QHD


def _stream_attention(q_QHD: Tensor, k_KGD: Tensor, v_KGD: Tensor, policy: RowPolicy) -> Tensor:
    num_queries, num_heads, _ = q_QHD.shape
    if missing := max(0, policy.min_rows - num_queries):
        q_QHD = F.pad(q_QHD, (0, 0, 0, 0, 0, missing))
    if repeats := num_heads // k_KGD.shape[1] - 1:
        k_KGD = k_KGD.repeat_interleave(repeats + 1, dim=1)
        v_KGD = v_KGD.repeat_interleave(repeats + 1, dim=1)
    q_1HQD, k_1HKD, v_1HKD = (x.transpose(0, 1).unsqueeze(0) for x in (q_QHD, k_KGD, v_KGD))
    return F.scaled_dot_product_attention(q_1HQD, k_1HKD, v_1HKD)[0].transpose(0, 1)[:num_queries]


def _varlen_attention(q_QHD: Tensor, k_KGD: Tensor, v_KGD: Tensor, layout: PackedLayout, policy: RowPolicy) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    query_offsets, key_offsets = layout.offsets_on(q_QHD.device)
    options: dict[str, Any] = {}
    if q_QHD.shape[1] != k_KGD.shape[1]:
        options["enable_gqa"] = True
    if policy.tile_rows is not None:
        options["num_splits"] = 1  # splitting the keys by the longest stream would change the order of the sums
    out_QHD = varlen_attn(
        q_QHD, k_KGD, v_KGD, query_offsets, key_offsets, layout.max_num_queries, layout.max_num_keys, **options
    )
    assert isinstance(out_QHD, Tensor)
    return out_QHD
