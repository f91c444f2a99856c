"""Keys and values of the positions that a request's decoding leaves out of a step.

The decoding says what each step computes of each stream; everything else keeps the keys and values of the last time it
was computed. Logits are read only where they are fresh, so none are kept.
"""

import torch
from torch import Tensor

from dimoo_core.decoding.base import Decoding
from dimoo_core.engine.step_cache import ComputedPart, RequestCache
from dimoo_core.model.kv_pool import KeyValueSlab, SlabAllocator


class ScopedCache(RequestCache):
    """The cache of one request; allocated when its first step runs, whole.

    Args:
        decoding: Says what is computed and whether anything is reused later.
        slabs: Where keys and values are kept.
    """

    def __init__(self, decoding: Decoding, slabs: SlabAllocator) -> None:
        self._decoding = decoding
        self._allocator = slabs
        self._device = slabs.device
        request = decoding.request
        self._lengths = [len(stream.around(request.target)) for stream in request.streams]  # not the device's target
        self._slabs: dict[int, KeyValueSlab] = {}
        self._num_bytes = slabs.bytes_for(sum(self._lengths)) if decoding.is_reused() else 0

    def num_tokens(self) -> int:
        """See ``RequestCache``."""
        return self._decoding.num_tokens()

    def num_bytes(self) -> int:
        """See ``RequestCache``."""
        return self._num_bytes

    def part(self, stream: int, step: int, reads_M: Tensor) -> ComputedPart:
        """See ``RequestCache``."""
        del step  # the decoding knows
        streams, scope = self._decoding.request.streams, self._decoding.scope(stream)
        first = len(streams[stream].prefix)
        if scope is None:
            slab = self._slab(stream) if self._decoding.is_reused() else None
            return ComputedPart(None, reads_M + first, slab)
        positions_C = scope.target_C + first
        if scope.has_suffix:
            suffix = torch.arange(first + len(self._decoding.target), self._lengths[stream], device=self._device)
            positions_C = torch.cat((positions_C, suffix))
        return ComputedPart(positions_C, torch.searchsorted(scope.target_C, reads_M), self._slab(stream))

    def absorb(self, stream: int, step: int, part: ComputedPart, logits_RV: Tensor, reads_M: Tensor) -> Tensor:
        """See ``RequestCache``."""
        del stream, step, part, reads_M
        return logits_RV

    def _slab(self, stream: int) -> KeyValueSlab:
        if stream not in self._slabs:
            self._slabs[stream] = self._allocator.slab(self._lengths[stream])
        return self._slabs[stream]
