"""Attention over sequences of any lengths that are side by side on one token axis.

Dimensions: S sequences, Q packed queries, K packed keys, H query heads, G key/value heads, D width of a head.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo_core.model.batch_invariance import InvariancePolicy

KernelOffsets = tuple[Tensor, Tensor, Tensor]
"""Query offsets, key offsets and numbers of keys, int32, as the variable-length kernel takes them."""


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """Where each sequence's queries and keys are on the packed token axis.

    ``query_offsets`` and ``key_offsets`` have ``num_sequences + 1`` entries, starting at 0. Queries may be fewer than
    keys: in the last layer only the positions whose logits are read ask anything. Where keys are kept with others'
    between them, ``key_starts`` are the rows at which each sequence's begin, ascending; None: one sequence after the
    other.
    """

    query_offsets: tuple[int, ...]
    key_offsets: tuple[int, ...]
    key_starts: tuple[int, ...] | None = None
    _on_device: dict[torch.device, KernelOffsets] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of_lengths(
        cls, query_lengths: Sequence[int], key_lengths: Sequence[int], key_starts: tuple[int, ...] | None = None
    ) -> "PackedLayout":
        """Layout of sequences with these numbers of queries and keys, in this order."""
        return cls(tuple(accumulate(query_lengths, initial=0)), tuple(accumulate(key_lengths, initial=0)), key_starts)

    def spans(self) -> list[tuple[slice, slice]]:
        """Query slice and key slice of each sequence."""
        queries = [slice(start, end) for start, end in pairwise(self.query_offsets)]
        starts = self.key_offsets[:-1] if self.key_starts is None else self.key_starts
        keys = [slice(start, start + n) for start, n in zip(starts, _differences(self.key_offsets), strict=True)]
        return list(zip(queries, keys, strict=True))

    def groups(self) -> list[tuple[int, slice, slice]]:
        """Runs of neighbouring sequences of equal lengths: how many, their query slice and their key slice."""
        if self.key_starts is not None:
            return [(1, queries, keys) for queries, keys in self.spans()]
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
        """Queries of the longest sequence."""
        return max(end - start for start, end in pairwise(self.query_offsets))

    @property
    def max_num_keys(self) -> int:
        """Keys of the longest sequence."""
        return max(end - start for start, end in pairwise(self.key_offsets))

    def offsets_on(self, device: torch.device) -> KernelOffsets:
        """Query offsets, key offsets and numbers of keys as int32 tensors, copied to ``device`` once."""
        if device not in self._on_device:
            starts, num_keys = self.key_offsets, _differences(self.key_offsets)
            if self.key_starts is not None:
                starts = (*self.key_starts, self.key_starts[-1] + num_keys[-1])
            self._on_device[device] = (
                torch.tensor(self.query_offsets, dtype=torch.int32).to(device, non_blocking=True),
                torch.tensor(starts, dtype=torch.int32).to(device, non_blocking=True),
                torch.tensor(num_keys, dtype=torch.int32).to(device, non_blocking=True),
            )
        return self._on_device[device]


def packed_attention(
    q_QHD: Tensor, k_KGD: Tensor, v_KGD: Tensor, layout: PackedLayout, policy: InvariancePolicy
) -> list[Tensor]:
    """Bidirectional attention of each sequence's queries over that sequence's keys alone.

    On CUDA in half precision one variable-length kernel serves all sequences. Elsewhere neighbouring sequences of equal
    lengths are one batch of ``scaled_dot_product_attention``, whose entries are computed alike in every batch;
    sequences with keys of their own are taken one by one, so that nothing is copied.

    Args:
        q_QHD: Rotated queries of all sequences.
        k_KGD: Rotated keys; H must be a multiple of G.
        policy: Fewest query rows to compute at a time on a CPU.

    Returns:
        Parts, in order, of one row a query, shape (Q, H, D); at least one.
    """
    if not len(q_QHD):
        return [q_QHD]
    if has_kernel_for_all(q_QHD):
        return [_varlen_attention(q_QHD, k_KGD, v_KGD, layout, policy)]
    return [
        _equal_sequences_attention(num_sequences, q_QHD[queries], k_KGD[keys], v_KGD[keys], policy)
        for num_sequences, queries, keys in layout.groups()
        if queries.start < queries.stop
    ]


def has_kernel_for_all(q_QHD: Tensor) -> bool:
    """Whether one kernel serves sequences of any lengths: on CUDA, in half precision."""
    return q_QHD.is_cuda and q_QHD.dtype != torch.float32


def _equal_sequences_attention(
    num_sequences: int, q_QHD: Tensor, k_KGD: Tensor, v_KGD: Tensor, policy: InvariancePolicy
) -> Tensor:
    q_SQHD, k_SKGD, v_SKGD = (x.view(num_sequences, -1, *x.shape[1:]) for x in (q_QHD, k_KGD, v_KGD))
    num_queries, num_heads = q_SQHD.shape[1:3]
    if missing := max(0, policy.min_rows - num_queries):
        q_SQHD = F.pad(q_SQHD, (0, 0, 0, 0, 0, missing))
    if (repeats := num_heads // k_SKGD.shape[2]) > 1:
        k_SKGD = k_SKGD.repeat_interleave(repeats, dim=2)
        v_SKGD = v_SKGD.repeat_interleave(repeats, dim=2)
    out_SHQD = F.scaled_dot_product_attention(q_SQHD.transpose(1, 2), k_SKGD.transpose(1, 2), v_SKGD.transpose(1, 2))
    return out_SHQD.transpose(1, 2)[:, :num_queries].flatten(0, 1)


def _varlen_attention(
    q_QHD: Tensor, k_KGD: Tensor, v_KGD: Tensor, layout: PackedLayout, policy: InvariancePolicy
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {}
    if layout.key_starts is not None and "seqused_k" not in known:  # it cannot pass over what is between
        spans = [keys for _, keys in layout.spans()]
        k_KGD, v_KGD = torch.cat([k_KGD[keys] for keys in spans]), torch.cat([v_KGD[keys] for keys in spans])
        layout = PackedLayout(layout.query_offsets, layout.key_offsets)
    query_offsets, key_offsets, num_keys = layout.offsets_on(q_QHD.device)
    if layout.key_starts is not None:
        options["seqused_k"] = num_keys
    if q_QHD.shape[1] != k_KGD.shape[1]:
        if "enable_gqa" in known:
            options["enable_gqa"] = True
        else:
            repeats = q_QHD.shape[1] // k_KGD.shape[1]
            k_KGD, v_KGD = k_KGD.repeat_interleave(repeats, dim=1), v_KGD.repeat_interleave(repeats, dim=1)
    if policy.tile_rows is not None and "num_splits" in known:  # before torch 2.12 it splits for grouped heads alone
        options["num_splits"] = 1  # splitting the keys by the longest sequence would change the order of the sums
    out_QHD = varlen_attn(
        q_QHD, k_KGD, v_KGD, query_offsets, key_offsets, layout.max_num_queries, layout.max_num_keys, **options
    )
    assert isinstance(out_QHD, Tensor)
    return out_QHD


def _differences(offsets: tuple[int, ...]) -> list[int]:
    return [end - start for start, end in pairwise(offsets)]
