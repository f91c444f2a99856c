"""A transformer that counts its arithmetic instead of doing it.

FLOPs are those of ``torch.utils.flop_counter.FlopCounterMode``: matrix products and attention, a multiply-add being
two. Norms, rotary embedding, activations, softmax and sampling are not counted: less than a hundredth in all.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from itertools import pairwise
from operator import add

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain import PlainTransformer
from dimoo_core.model.kv_pool import KVBlock
from dimoo_core.model.packed_batch import PackedBatch, SequenceView, pack
from dimoo_core.model.transformer import Observer, Transformer
from dimoo_core.model_config import ModelConfig

_META = torch.device("meta")
_NUM_NOISE_COLUMNS = 2


@dataclass(frozen=True, slots=True)
class Flops:
    """Floating-point operations by part of the model."""

    inner_layers: int = 0  # every layer but the last
    last_layer: int = 0
    head: int = 0
    spared: int = 0  # of inner_layers, not spent and not in it: the first layer's projections of ids that came before

    @property
    def total(self) -> int:
        """All parts that are spent."""
        return self.inner_layers + self.last_layer + self.head

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(*map(add, astuple(self), astuple(other)))

    def __mul__(self, factor: int) -> "Flops":
        return Flops(*(part * factor for part in astuple(self)))


class CountingTransformer(Transformer):
    """Weights without storage; ``flops`` grows with what an engine asks of it.

    The engine gets hidden states of width 1 and noise of two columns for logits: enough for its own code to sample,
    commit and go on. Each stream is counted by driving ``Transformer.forward`` on a batch of meta tensors with its
    numbers of computed and of read positions and of keys; what was seen before is not driven through the inner layers
    again, since these do not know what is read.

    Which ids are equal is known only where weights are. Of the given ones it is counted; each that was decided is taken
    to be unlike every other of its request, as in an image in which no code occurs twice, and unlike those of other
    requests. So real runs cost what is counted, or less.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, device=_META, dtype=torch.bfloat16)
        self.flops = Flops()
        self.num_tokens = 0  # that went through it
        self.num_read: list[int] = []  # positions read at each step, all streams together
        self._last_layer_alone = Transformer(replace(config, num_layers=1), device=_META, dtype=torch.bfloat16)
        self._inner_flops: dict[tuple[int, int], int] = {}
        self._last_flops: dict[tuple[int, int, int], int] = {}
        self._dummies: set[int] = set()  # ids that stand for whatever a model would have decided
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
        spared = (len(batch.ids_T) - self._num_distinct(batch)) * self._projection_flops
        self.flops += Flops(inner_layers=-spared, spared=spared)
        self.num_tokens += len(batch.ids_T)
        self.num_read.append(len(batch.read_R))
        return torch.zeros(len(batch.read_R), 1)

    def logits(self, hidden_RE: Tensor, columns: slice) -> Tensor:
        """Count the head at these rows and columns; returns noise, (R, 2)."""
        self.flops += Flops(head=self.head_flops(len(hidden_RE), columns))
        self._dummies |= {columns.start + column for column in range(_NUM_NOISE_COLUMNS)}
        return torch.randn(len(hidden_RE), _NUM_NOISE_COLUMNS, generator=self._generator)

    def head_flops(self, num_rows: int, columns: slice) -> int:
        """FLOPs of the head at so many positions."""
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            super().logits(torch.empty(num_rows, self.config.hidden_size, dtype=self.dtype, device=_META), columns)
        return int(counter.get_total_flops())

    def _num_distinct(self, batch: PackedBatch) -> int:
        """Tokens whose first projections are computed; streams that decided alike at every place are of one request."""
        is_dummy_T = torch.isin(batch.ids_T, torch.tensor(sorted(self._dummies), dtype=batch.ids_T.dtype))
        num_decided: dict[bytes, int] = {}
        for (start, end), (first_key, end_key) in zip(
            pairwise(batch.layout.query_offsets), pairwise(batch.layout.key_offsets), strict=True
        ):
            is_dummy = is_dummy_T[start:end]
            from_end = end_key - first_key - batch.positions_T[start:end][is_dummy]  # prompts differ in length
            decided = torch.stack((from_end, batch.ids_T[start:end][is_dummy]))
            num_decided[decided.numpy().tobytes()] = decided.shape[1]
        return len(batch.ids_T[~is_dummy_T].unique()) + sum(num_decided.values())

    @cached_property
    def _projection_flops(self) -> int:
        """FLOPs of one token's projections in the first layer, as far as they depend on its id alone."""

        def inner_flops(num_distinct: int) -> int:
            first_U, place_T = (torch.empty(count, dtype=torch.int64, device=_META) for count in (num_distinct, 2))
            batch = replace(_meta_batch(self.config, 2, 2, 2), distinct=(first_U, place_T))
            return sum(layer_flops(lambda observe: Transformer.forward(self, batch, observe))[:-1])

        return inner_flops(2) - inner_flops(1)

    def stream_flops(self, num_computed: int, num_read: int, num_keys: int) -> Flops:
        """FLOPs of one forward pass of one stream whose ids all differ, without the head.

        Keys are more than the computed tokens where a step cache has them.
        """
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
        return pack([SequenceView(ids_C, read_R)], _META)
    block = KVBlock.alone(config, num_keys, device=_META, dtype=torch.bfloat16)
    return pack([SequenceView(ids_C, read_R, positions_C, block)], _META)
