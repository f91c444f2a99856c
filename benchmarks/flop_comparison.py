"""The reference's arithmetic against the engine's, counted for whole generations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.counting_transformer import CountingTransformer, Flops, PlainCounter
from benchmarks.shape import Shape
from benchmarks.workload import sequence_lengths, without_parallel_commits
from dimoo_core.engine.engine import Engine
from dimoo_core.engine.scheduler import UNLIMITED_BYTES
from dimoo_core.model_config import ModelConfig
from dimoo_core.request.request import Request, RequestFailed
from dimoo_core.settings import EngineConfig, ImageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """FLOPs of one or more generations, the reference's way and the engine's."""

    name: str
    sequence_lengths: list[int]  # of one request
    num_requests: int
    num_steps: int
    num_columns: int  # that the engine reads
    reference: Flops
    reference_head_of_read_columns: int  # had the reference computed only these, at every position
    engine_apart: Flops  # the requests one after the other: no stream is shared
    engine: Flops

    @property
    def share(self) -> float:
        """The engine's arithmetic over the reference's."""
        return self.engine.total / self.reference.total

    def savings(self) -> dict[str, int]:
        """What is saved where; adds up to the whole difference."""
        return {
            "first layer: queries, keys and values once an id": self.engine_apart.spared,
            "layers before the last: positions served from the step cache": (
                self.reference.inner_layers - self.engine_apart.inner_layers - self.engine_apart.spared
            ),
            "last layer: queries, output and MLP only where logits are read": (
                self.reference.last_layer - self.engine_apart.last_layer
            ),
            "head: only the columns that are read": self.reference.head - self.reference_head_of_read_columns,
            "head: only the positions that are read": self.reference_head_of_read_columns - self.engine_apart.head,
            "streams and ids shared between requests": self.engine_apart.total - self.engine.total,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCount:
    """What an engine asked of its transformer."""

    flops: Flops
    num_tokens: int  # that went through it
    num_steps: int


class Counting:
    """Both ways of counting at one shape. Counts of lengths seen before are kept."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._transformer = CountingTransformer(shape.config)
        self._plain = PlainCounter(shape.config)

    def compare(self, name: str, requests: Sequence[Request]) -> Comparison:
        """Count requests that differ in nothing but words, pictures and seeds, running together."""
        lengths = sequence_lengths(requests[0])
        count_alone = self.count(requests[:1])
        alone, num_steps = count_alone.flops, count_alone.num_steps
        columns = _columns(self._shape, requests[0])
        times = num_steps * len(requests)
        return Comparison(
            name=name,
            sequence_lengths=lengths,
            num_requests=len(requests),
            num_steps=num_steps,
            num_columns=columns.stop - columns.start,
            reference=self.reference(lengths) * times,
            reference_head_of_read_columns=self._transformer.head_flops(sum(lengths), columns) * times,
            engine_apart=alone * len(requests),
            engine=self.engine(requests) if len(requests) > 1 else alone,
        )

    def engine(self, requests: Sequence[Request]) -> Flops:
        """FLOPs of an engine that finishes these requests together."""
        return self.count(requests).flops

    def count(self, requests: Sequence[Request]) -> EngineCount:
        """What an engine asks of its transformer to finish these requests together.

        Whether a step may decide more than its share depends on what the model computes. It is counted as if none did,
        so that a real run with parallel commits costs what is counted, or less.
        """
        transformer = self._transformer
        transformer.flops, transformer.num_tokens, transformer.num_read = Flops(), 0, []
        num_tokens = sum(request.num_tokens for request in requests)
        config = EngineConfig(max_step_tokens=num_tokens, max_cache_bytes=UNLIMITED_BYTES, batch_invariance="off")
        engine = Engine(transformer, self._shape.tokens, config)
        for request in requests:
            engine.submit(replace(request, settings=without_parallel_commits(request.settings)))
        while engine.num_unfinished:
            for result in engine.step():
                assert not isinstance(result, RequestFailed)
        return EngineCount(
            flops=transformer.flops, num_tokens=transformer.num_tokens, num_steps=len(transformer.num_read)
        )

    def reference(self, lengths: Sequence[int]) -> Flops:
        """One step of the reference: one forward pass of each stream."""
        total = Flops()
        for length in lengths:
            total += self._plain.stream_flops(length)
        return total


def flops_by_hand(config: ModelConfig, length: int) -> Flops:
    """The textbook's count of one full forward pass of ``length`` tokens, against which the counters are checked."""
    size, num_columns = config.hidden_size, config.num_embeddings
    products = 2 * length * (2 * size * size + 2 * size * config.kv_size + 3 * size * config.mlp_size)
    layer = products + 2 * 2 * length * length * size
    return Flops((config.num_layers - 1) * layer, layer, 2 * length * size * num_columns)


def _columns(shape: Shape, request: Request) -> slice:
    is_image = isinstance(request.settings, ImageSettings)
    return shape.tokens.image_columns if is_image else shape.tokens.vocabulary_columns
