"""Attention over streams of any lengths that lie side by side on one token axis.

Dimensions: S streams, Q packed queries, K packed keys, H query heads, G key/value heads, D width of a head.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo_core.errors import ConfigError
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

    def groups(self) -> list[tuple[int, slice, slice]]:
        """Runs of neighbouring streams of equal lengths: how many, their query slice and their key slice."""
        found: list[tuple[int, slice, slice]] = []
        lengths = zip(_differences(self.query_offsets), _differences(self.key_offsets), strict=True)
        first = 0
        for _, run in groupby(lengths):
            last = first + len(list(run))
            queries = slice(self.query_offsets[first], self.query_offsets[last])
            found.append((last - first, queries, slice(self.key_offsets[first], self.key_offsets[last])))
            first = last
        return found

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


Keys = Tensor | Sequence[Tensor]
"""Keys, or values, of all streams on one axis, or one tensor a stream where they lie in different places."""


def packed_attention(q_QHD: Tensor, keys: Keys, values: Keys, layout: PackedLayout, policy: RowPolicy) -> Tensor:
    """Bidirectional attention of each stream's queries over that stream's keys alone.

    On CUDA in half precision one variable-length kernel serves all streams. Elsewhere neighbouring streams of equal
    lengths are one batch of ``scaled_dot_product_attention``, whose entries are computed alike in every batch; streams
    with keys of their own are taken one by one, so that nothing is copied.

    Args:
        q_QHD: Rotated queries of all streams.
        keys: Rotated keys, (K, G, D) or one such tensor a stream; H must be a multiple of G.
        values: Values, in the same form.
        layout: Which queries and keys belong together.
        policy: Fewest query rows to compute at a time on a CPU.

    Returns:
        One row a query, in the order of ``q_QHD``, shape (Q, H, D).
    """
    if not len(q_QHD):
        return q_QHD
    if q_QHD.is_cuda and q_QHD.dtype != torch.float32:  # the variable-length kernel knows half precision only
        k_KGD = keys if isinstance(keys, Tensor) else torch.cat(list(keys))
        v_KGD = values if isinstance(values, Tensor) else torch.cat(list(values))
        return _varlen_attention(q_QHD, k_KGD, v_KGD, layout, policy)
    if isinstance(keys, Tensor) and isinstance(values, Tensor):
        groups = [(n, queries, keys[place], values[place]) for n, queries, place in layout.groups()]
    else:
        spans = zip(layout.spans(), keys, values, strict=True)
        groups = [(1, queries, k_KGD, v_KGD) for (queries, _), k_KGD, v_KGD in spans]
    return torch.cat(
        [
            _equal_streams_attention(num_streams, q_QHD[queries], k_KGD, v_KGD, policy)
            for num_streams, queries, k_KGD, v_KGD in groups
            if queries.start < queries.stop
        ]
    )


def _equal_streams_attention(
    num_streams: int, q_QHD: Tensor, k_KGD: Tensor, v_KGD: Tensor, policy: RowPolicy
) -> Tensor:
    q_SQHD, k_SKGD, v_SKGD = (x.view(num_streams, -1, *x.shape[1:]) for x in (q_QHD, k_KGD, v_KGD))
    num_queries, num_heads = q_SQHD.shape[1:3]
    if missing := max(0, policy.min_rows - num_queries):
        q_SQHD = F.pad(q_SQHD, (0, 0, 0, 0, 0, missing))
    if (repeats := num_heads // k_SKGD.shape[2]) > 1:
        k_SKGD = k_SKGD.repeat_interleave(repeats, dim=2)
        v_SKGD = v_SKGD.repeat_interleave(repeats, dim=2)
    out_SHQD = F.scaled_dot_product_attention(q_SQHD.transpose(1, 2), k_SKGD.transpose(1, 2), v_SKGD.transpose(1, 2))
    return out_SHQD.transpose(1, 2)[:, :num_queries].flatten(0, 1)


def _varlen_attention(q_QHD: Tensor, k_KGD: Tensor, v_KGD: Tensor, layout: PackedLayout, policy: RowPolicy) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    query_offsets, key_offsets = layout.offsets_on(q_QHD.device)
    options: dict[str, Any] = {}
    if (repeats := q_QHD.shape[1] // k_KGD.shape[1]) > 1:
        k_KGD, v_KGD = k_KGD.repeat_interleave(repeats, dim=1), v_KGD.repeat_interleave(repeats, dim=1)
    if policy.tile_rows is not None:
        if "num_splits" not in inspect.signature(varlen_attn).parameters:
            raise ConfigError(f"batch invariance on CUDA needs a later torch than {torch.__version__}: set it to off")
        options["num_splits"] = 1  # splitting the keys by the longest stream would change the order of the sums
    out_QHD = varlen_attn(
        q_QHD, k_KGD, v_KGD, query_offsets, key_offsets, layout.max_num_queries, layout.max_num_keys, **options
    )
    assert isinstance(out_QHD, Tensor)
    return out_QHD


def _differences(offsets: tuple[int, ...]) -> list[int]:
    return [end - start for start, end in pairwise(offsets)]
