"""Counts the arithmetic of real runs by formula, fast enough to leave on."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from benchmarks.counting_transformer import Flops
from dimoo_core.model.packed_batch import PackedBatch
from dimoo_core.model.transformer import Transformer
from dimoo_core.model_config import ModelConfig


def stream_flops(config: ModelConfig, num_computed: int, num_read: int, num_keys: int) -> Flops:
    """FLOPs of one pass of one stream without the head; equal to those that ``CountingTransformer`` counts.

    That the first layer projects equal ids once is left out: it depends on what else is in the batch.
    """
    size, kv_size, mlp_size = config.hidden_size, config.kv_size, config.mlp_size
    per_query = 2 * size * size + 2 * 3 * size * mlp_size + 2 * 2 * num_keys * size  # output, MLP, attention
    keys_and_values = num_computed * 2 * size * 2 * kv_size
    layer = num_computed * (per_query + 2 * size * size) + keys_and_values
    last = num_read * (per_query + 2 * size * size) + keys_and_values
    return Flops((config.num_layers - 1) * layer, last)


class FlopMeter:
    """Counts what goes through a transformer that reads so many columns of the head."""

    def __init__(self, config: ModelConfig, num_columns: int) -> None:
        self._config = config
        self._num_columns = num_columns
        self.flops = Flops()
        self.num_tokens = 0

    @contextmanager
    def watching(self, transformer: Transformer) -> Iterator[None]:
        """Count while the block runs."""
        hook = transformer.register_forward_pre_hook(lambda _, arguments: self._count(arguments[0]))
        try:
            yield
        finally:
            hook.remove()

    def _count(self, batch: PackedBatch) -> None:
        offsets = (batch.layout.query_offsets, batch.read_layout.query_offsets, batch.layout.key_offsets)
        for spans in zip(*map(pairwise, offsets), strict=True):
            num_computed, num_read, num_keys = (end - start for start, end in spans)
            self.flops += stream_flops(self._config, num_computed, num_read, num_keys)
            self.flops += Flops(head=2 * num_read * self._config.hidden_size * self._num_columns)
        self.num_tokens += len(batch.ids_T)
