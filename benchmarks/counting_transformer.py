"""A transformer that counts its arithmetic instead of doing it.

FLOPs are those of ``torch.utils.flop_counter.FlopCounterMode``: matrix products and attention, a multiply-add being
two. Norms, rotary embedding, activations, softmax and sampling are not counted: less than a hundredth in all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain import PlainTransformer
from dimoo_core.config import ModelConfig
from dimoo_core.packing import StreamView, pack
from dimoo_core.step_cache import KeyValueSlab
from dimoo_core.transformer import Observer, PackedBatch, Transformer

_META = torch.device("meta")
_NUM_NOISE_COLUMNS = 2


@dataclass(frozen=True, slots=True)
class Flops:
    """Floating-point operations by part of the model."""

    inner_layers: int = 0  # every layer but the last
    last_layer: int = 0
    head: int = 0

    @property
    def total(self) -> int:
        """All parts."""
        return self.inner_layers + self.last_layer + self.head

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.inner_layers + other.inner_layers, self.last_layer + other.last_layer, self.head + other.head)

    def __mul__(self, factor: int) -> "Flops":
        return Flops(self.inner_layers * factor, self.last_layer * factor, self.head * factor)


class CountingTransformer(Transformer):
    """Weights without storage; ``flops`` grows with what an engine asks of it.

    The engine gets hidden states of width 1 and noise of two columns for logits: enough for its own code to sample,
    commit and go on. Each stream is counted by driving ``Transformer.forward`` on a batch of meta tensors with its
    numbers of computed and of read positions and of keys; what was seen before is not driven through the inner layers
    again, since these do not know what is read.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, device=_META, dtype=torch.bfloat16)
        self.flops = Flops()
        self.num_read: list[int] = []  # positions read at each step, all streams together
        self._last_layer_alone = Transformer(replace(config, num_layers=1), device=_META, dtype=torch.bfloat16)
        self._inner_flops: dict[tuple[int, int], int] = {}
        self._last_flops: dict[tuple[int, int, int], int] = {}
        self._generator = torch.Generator().manual_seed(0)

    @property
    def device(self) -> torch.device:
        """Where an engine is to keep its ids: the weights are nowhere."""
        return torch.device("cpu")

    def forward(self, batch: PackedBatch, observe: Observer | None = None) -> Tensor:
        """Count one forward pass; returns dummies, (R, 1)."""
        offsets = (batch.layout.query_offsets, batch.read_layout.query_offsets, batch.layout.key_offsets)
        for spans in zip(*map(pairwise, offsets), strict=True):
            self.flops += self.stream_flops(*(end - start for start, end in spans))
        self.num_read.append(len(batch.read_R))
        return torch.zeros(len(batch.read_R), 1)

    def logits(self, hidden_RE: Tensor, columns: slice) -> Tensor:
        """Count the head at these rows and columns; returns noise, (R, 2)."""
        self.flops += Flops(head=self.head_flops(len(hidden_RE), columns))
        return torch.randn(len(hidden_RE), _NUM_NOISE_COLUMNS, generator=self._generator)

    def head_flops(self, num_rows: int, columns: slice) -> int:
        """FLOPs of the head at so many positions."""
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            super().logits(torch.empty(num_rows, self.config.hidden_size, dtype=self.dtype, device=_META), columns)
        return int(counter.get_total_flops())

    def stream_flops(self, num_computed: int, num_read: int, num_keys: int) -> Flops:
        """FLOPs of one forward pass of one stream, without the head; keys are more where a step cache has them."""
        inner, last = (num_computed, num_keys), (num_computed, num_read, num_keys)
        if inner not in self._inner_flops:
            batch = _meta_batch(self.config, *last)
            whole = layer_flops(lambda observe: Transformer.forward(self, batch, observe))
            self._inner_flops[inner], self._last_flops[last] = sum(whole[:-1]), whole[-1]
        if last not in self._last_flops:
            batch = _meta_batch(self._last_layer_alone.config, *last)
            (alone,) = layer_flops(lambda observe: self._last_layer_alone(batch, observe))
            self._last_flops[last] = alone
        return Flops(self._inner_flops[inner], self._last_flops[last])


class PlainCounter:
    """Counts the reference's arithmetic by driving ``PlainTransformer`` on meta tensors."""

    def __init__(self, config: ModelConfig) -> None:
        self._transformer = Transformer(config, device=_META, dtype=torch.bfloat16)
        self._plain = PlainTransformer(self._transformer)
        self._by_length: dict[int, Flops] = {}

    def stream_flops(self, length: int) -> Flops:
        """FLOPs of one forward pass of one stream; no step costs less than another."""
        if length not in self._by_length:
            ids_T = torch.empty(length, dtype=torch.int64, device=_META)
            layers = layer_flops(lambda observe: self._plain.hidden(ids_T, observe))
            hidden_TE = torch.empty(length, self._transformer.config.hidden_size, dtype=torch.bfloat16, device=_META)
            with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                self._plain.logits(hidden_TE)
            self._by_length[length] = Flops(sum(layers[:-1]), layers[-1], int(counter.get_total_flops()))
        return self._by_length[length]


def layer_flops(forward: Callable[[Observer], object]) -> list[int]:
    """FLOPs of each layer of one forward pass, which is given the observer to call."""
    marks = [0]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        forward(lambda _index, _x: marks.append(counter.get_total_flops()))
    return [after - before for before, after in pairwise(marks)]


def _meta_batch(config: ModelConfig, num_computed: int, num_read: int, num_keys: int) -> PackedBatch:
    ids_C, positions_C, read_R = (
        torch.empty(count, dtype=torch.int64, device=_META) for count in (num_computed, num_computed, num_read)
    )
    if num_computed == num_keys:
        return pack([StreamView(ids_C, read_R)], _META)
    slab = KeyValueSlab(config, num_keys, device=_META, dtype=torch.bfloat16)
    return pack([StreamView(ids_C, read_R, positions_C, slab)], _META)
