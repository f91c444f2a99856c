"""Keys and values that sequences keep between steps: blocks, which are ranges of pools.

Where one kernel serves many sequences, their keys have to be in one tensor. So on CUDA blocks are ranges of large
pools, rows are written where they belong, and attention reads them there: no step copies what is kept. On CPUs, where
sequences are taken one by one, each block is a pool of its own, and its memory goes back with it.

Dimensions: L layers, P tokens of a pool, C computed positions, G key/value heads, D width of a head.
"""

import weakref
from collections import deque
from itertools import count

import torch

from dimoo_core.model_config import ModelConfig

_POOL_TOKENS = 32_768  # seven sequences of an image of 1024x1024
_LEAST_POOLS = 4

_numbers = count()


def kv_bytes(model: ModelConfig, num_tokens: int, dtype: torch.dtype) -> int:
    """Memory of blocks for so many tokens."""
    return 2 * model.num_layers * num_tokens * model.kv_size * dtype.itemsize


class KVPool:
    """Rotated keys and values in every layer, allocated once, of which blocks hold ranges."""

    def __init__(self, config: ModelConfig, length: int, *, device: torch.device, dtype: torch.dtype) -> None:
        shape = (config.num_layers, length, config.num_kv_heads, config.head_dim)
        self.number = next(_numbers)  # younger pools have greater ones
        self.keys_LPGD = torch.empty(shape, device=device, dtype=dtype)
        self.values_LPGD = torch.empty(shape, device=device, dtype=dtype)
        self._free = [(0, length)]  # ascending, none next to another
        self._length = length

    def take(self, length: int) -> int | None:
        """Where the first free range of this length begins; it is taken. None: there is none."""
        for index, (start, end) in enumerate(self._free):
            if end - start >= length:
                self._free[index : index + 1] = [(start + length, end)] if end - start > length else []
                return start
        return None

    def give_back(self, start: int, length: int) -> None:
        """Free a range that was taken."""
        merged: list[tuple[int, int]] = []
        for first, end in sorted([*self._free, (start, start + length)]):
            if merged and merged[-1][1] == first:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((first, end))
        self._free = merged

    @property
    def is_unused(self) -> bool:
        """Nothing of it is taken."""
        return self._free == [(0, self._length)]


class KVBlock:
    """The keys and values of one sequence: ``length`` tokens of a pool, from ``start`` on."""

    def __init__(self, pool: KVPool, start: int, length: int) -> None:
        self.pool = pool
        self.start = start
        self.keys_LTGD = pool.keys_LPGD[:, start : start + length]
        self.values_LTGD = pool.values_LPGD[:, start : start + length]

    @classmethod
    def alone(cls, config: ModelConfig, length: int, *, device: torch.device, dtype: torch.dtype) -> "KVBlock":
        """A block that is the whole of its pool."""
        return cls(KVPool(config, length, device=device, dtype=dtype), 0, length)

    def __len__(self) -> int:
        return self.keys_LTGD.shape[1]

    @property
    def place(self) -> tuple[int, int]:
        """Pool and start, for sorting blocks as they are in memory."""
        return self.pool.number, self.start


class KVAllocator:
    """Allocates blocks of one model, from pools of ``pool_tokens`` (0: a block has a pool of its own).

    One thread owns it; blocks may die on any.
    """

    def __init__(self, config: ModelConfig, *, device: torch.device, dtype: torch.dtype, pool_tokens: int = 0) -> None:
        self.device = device
        self._config = config
        self._dtype = dtype
        self.pool_tokens = pool_tokens
        self._pools: list[KVPool] = []
        self._died: deque[tuple[KVPool, int, int]] = deque()  # a collector may add to it at any moment

    def block(self, length: int) -> KVBlock:
        """A block for so many tokens; what is in it is anything. It is given back when nothing refers to it."""
        self.reclaim()
        if length >= self.pool_tokens:
            return self._alone(length)
        for pool in self._pools:
            start = pool.take(length)
            if start is not None:
                return self._watched(KVBlock(pool, start, length))
        try:
            pool = KVPool(self._config, self.pool_tokens, device=self.device, dtype=self._dtype)
        except torch.OutOfMemoryError:
            return self._alone(length)  # a whole pool is more than is left, and more than is needed
        start = pool.take(length)
        assert start is not None
        self._pools.append(pool)
        return self._watched(KVBlock(pool, start, length))

    def _alone(self, length: int) -> KVBlock:
        return KVBlock.alone(self._config, length, device=self.device, dtype=self._dtype)

    def reclaim(self) -> None:
        """Free the ranges of blocks that died, and let pools go in which nothing is left."""
        while self._died:
            pool, start, length = self._died.popleft()
            pool.give_back(start, length)
        self._pools = [pool for pool in self._pools if not pool.is_unused]

    def bytes_for(self, num_tokens: int) -> int:
        """Memory of blocks for so many tokens."""
        return kv_bytes(self._config, num_tokens, self._dtype)

    def _watched(self, block: KVBlock) -> KVBlock:
        finalizer = weakref.finalize(block, self._died.append, (block.pool, block.start, len(block)))
        finalizer.atexit = False
        return block


def allocator_within(max_bytes: int, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> KVAllocator:
    """Blocks for caches of so many bytes together: on CUDA in pools of which the budget holds at least a few."""
    affordable = max_bytes // kv_bytes(config, 1, dtype) // _LEAST_POOLS
    pool_tokens = min(_POOL_TOKENS, affordable) if device.type == "cuda" else 0
    return KVAllocator(config, device=device, dtype=dtype, pool_tokens=pool_tokens)
