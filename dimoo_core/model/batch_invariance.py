"""Matrix products whose rows do not depend on how many rows are computed together.

Libraries choose their kernel by the number of rows, so a row may differ in its last bit between a batch of three
and a batch of three hundred: enough, after sampling, for another token. An ``InvariancePolicy`` sets which shapes are
safe.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo_core.model.float8 import FLOAT8, Float8Weight

_PROBE_ROWS = (*range(16, 80), 96, 127, 129, 200, 255, 257, 320, 383, 511, 513, 600, 639)
_PROBE_COLUMNS = 4096  # wider weights are probed on this many columns: kernels tile that dimension alike

_MIN_TILE_ROWS = 256
_TILE_BYTES = 12 * 2**20


class LinearShape(NamedTuple):
    """A weight that rows are multiplied with."""

    num_inputs: int
    num_outputs: int
    dtype: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class InvariancePolicy:
    """Shapes in which rows are multiplied.

    ``min_rows`` pads smaller products up. ``tile_rows`` cuts every product into tiles of exactly that many rows,
    the last one padded: invariant by construction, at the price of the padding and of smaller kernels.
    """

    min_rows: int = 1
    tile_rows: int | None = None


FREE = InvariancePolicy()
"""Every product in one call, whatever its size: fastest, rows may differ in the last bit between batches."""


def linear(x_RI: Tensor, weight_OI: Tensor | Float8Weight, policy: InvariancePolicy) -> Tensor:
    """``x_RI @ weight_OI.T``, rows computed in the shapes that ``policy`` allows; returns (R, O)."""
    num_rows = x_RI.shape[0]
    if policy.tile_rows is None:
        missing = max(0, policy.min_rows - num_rows) if num_rows else 0
        if not missing:
            return _product(x_RI, weight_OI)
        return _product(F.pad(x_RI, (0, 0, 0, missing)), weight_OI)[:num_rows]
    tile = policy.tile_rows
    out_RO = x_RI.new_empty(num_rows, weight_OI.shape[0])
    for start in range(0, num_rows, tile):
        rows_TI = x_RI[start : start + tile]
        num_real = rows_TI.shape[0]
        if num_real < tile:
            rows_TI = F.pad(rows_TI, (0, 0, 0, tile - num_real))
        out_RO[start : start + num_real] = _product(rows_TI, weight_OI)[:num_real]
    return out_RO


def _product(x_RI: Tensor, weight_OI: Tensor | Float8Weight) -> Tensor:
    return weight_OI.product(x_RI) if isinstance(weight_OI, Float8Weight) else F.linear(x_RI, weight_OI)


def even_tiles(num_rows: int, row_bytes: int) -> list[slice]:
    """Rows in as few tiles as keep what is computed of each within a CPU's caches and its allocator's free lists.

    The tiles are of nearly one size, at least ``_MIN_TILE_ROWS`` rows unless there are fewer, so that cutting changes
    no kernel: a policy that pads more than that does not exist.
    """
    most = max(2 * _MIN_TILE_ROWS, _TILE_BYTES // row_bytes)
    count = max(1, -(-num_rows // most))
    bounds = [num_rows * index // count for index in range(count + 1)]
    return [slice(start, end) for start, end in pairwise(bounds)]


def silu(x_TF: Tensor, policy: InvariancePolicy = FREE) -> Tensor:
    """``x * sigmoid(x)``; under any policy but ``FREE`` each element is computed alike wherever it is.

    torch's CPU kernel takes the exponential of a vector's tail from another library than that of its body, so that
    the last bit could depend on the batch. It is used where no thread's share can have a tail, else ``torch.exp``,
    which has none.
    """
    is_free = policy == FREE or not x_TF.is_cpu or x_TF.requires_grad
    if is_free or _has_no_tails(x_TF.shape[-1], x_TF.dtype.itemsize, torch.get_num_threads()):
        return F.silu(x_TF)
    x_f32 = x_TF.float()
    denominator_TF = torch.exp(-x_f32).add_(1.0)
    return torch.div(x_f32, denominator_TF, out=denominator_TF).to(x_TF.dtype)


_VECTOR_BYTES = 2 * 64  # the longest vectors of x86 and ARM kernels, unrolled twice


@lru_cache(maxsize=64)
def _has_no_tails(width: int, itemsize: int, num_threads: int) -> bool:
    """Whether rows of this width, any number of them, fall into whole vectors for every number of threads used.

    torch gives each of k threads ``ceil(elements / k)`` neighbouring elements, k being at most ``num_threads``.
    """
    return all(width * itemsize % (_VECTOR_BYTES * k) == 0 for k in range(1, num_threads + 1))


def probe_invariance_policy(shapes: Iterable[LinearShape], device: torch.device) -> InvariancePolicy:
    """The cheapest policy under which this machine's matrix products are row-invariant.

    Args:
        shapes: The weights that will be used.
        device: CUDA gets fixed tiles without a probe: its kernels change with the row count at many sizes.

    Returns:
        Padding to the smallest row count above which no probed product differed, or fixed tiles if there is none.
    """
    if device.type == "cuda":
        return InvariancePolicy(tile_rows=256)
    if device.type == "meta":
        return FREE
    probed = frozenset(
        LinearShape(shape.num_inputs, min(shape.num_outputs, _PROBE_COLUMNS), shape.dtype) for shape in shapes
    )
    return _probe_cpu(probed, torch.get_num_threads())


@lru_cache(maxsize=16)
def _probe_cpu(shapes: frozenset[LinearShape], num_threads: int) -> InvariancePolicy:
    """Libraries also look at the number of threads; it is an argument so that each number gets its own answer."""
    min_rows = _PROBE_ROWS[0]
    for num_inputs, num_outputs, dtype in shapes:
        generator = torch.Generator().manual_seed(num_inputs * 1_000_003 + num_outputs)
        type_of_x = torch.bfloat16 if dtype == FLOAT8 else dtype
        x_RI = torch.randn(_PROBE_ROWS[-1] + 1, num_inputs, generator=generator).to(type_of_x)
        random_OI = torch.randn(num_outputs, num_inputs, generator=generator).to(type_of_x)
        weight_OI = Float8Weight.of(random_OI) if dtype == FLOAT8 else random_OI
        expected_RO = _product(x_RI, weight_OI)
        unequal = [n for n in _PROBE_ROWS if not torch.equal(_product(x_RI[:n], weight_OI), expected_RO[:n])]
        if unequal:
            min_rows = max(min_rows, unequal[-1] + 1)
    return InvariancePolicy(min_rows=min_rows) if min_rows <= 128 else InvariancePolicy(tile_rows=256)
