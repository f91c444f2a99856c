"""What mixing costs: images of three sizes and captions together, against each kind in a run of its own.

``python -m benchmarks.mixed [--shape proportional] [--sizes 128x128,256x128,256x256] [--steps 8] [--count 8]
[--preset exact] [--max-step-tokens 2048] [--repeats 3] [--threads 2] [--out FILE]``

The same requests both ways, by turns; throughput is counted arithmetic over the process's CPU time. Rows of matrix
products and queries of attention are counted as they happen and set against those of real tokens: the rest is padding.
"""

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from benchmarks.batch_invariance import RowCount
from benchmarks.case import caption_case, image_case
from benchmarks.flop_meter import FlopMeter
from benchmarks.random_weights import random_transformer
from benchmarks.result_file import environment, write_result
from benchmarks.shape import SHAPES, Shape
from benchmarks.workload import parse_size
from dimoo_core.engine.engine import Engine
from dimoo_core.model.packed_batch import PackedBatch
from dimoo_core.model.transformer import Transformer
from dimoo_core.presets import DEFAULT_PRESET, PRESETS, find_preset
from dimoo_core.request.request import Request, RequestFailed
from dimoo_core.settings import BatchInvariance, EngineConfig

_CPU = torch.device("cpu")


@dataclass(slots=True)
class RealRows:
    """Rows that the tokens of packed batches need, by how the transformer is built."""

    num_layers: int
    product_rows: int = 0
    query_rows: int = 0

    def add(self, batch: PackedBatch) -> None:
        """Count one forward pass and its head in."""
        num_tokens, num_read = batch.layout.query_offsets[-1], batch.read_layout.query_offsets[-1]
        inner = self.num_layers - 1
        first = num_tokens if batch.distinct is None else len(batch.distinct[0])
        projections = first + (inner - 1) * num_tokens  # query, key and value together
        self.product_rows += projections + inner * 3 * num_tokens + num_tokens + 4 * num_read + num_read
        self.query_rows += inner * num_tokens + num_read


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """One way of running the work: its runs, one after the other, each a list of requests that are together."""

    name: str
    runs: list[list[Request]]
    flops: list[int] = field(default_factory=list)  # of each repeat, the head left out
    process_s: list[float] = field(default_factory=list)


class MixedBenchmark:
    """One model, whose engines hold so many tokens a step."""

    def __init__(self, shape: Shape, max_step_tokens: int) -> None:
        self._shape = shape
        self._transformer: Transformer = random_transformer(shape)
        self._max_step_tokens = max_step_tokens

    def run(self, kernels: KernelOptions, invariance: BatchInvariance = "auto") -> None:
        """Run everything once and note its cost."""
        meter = FlopMeter(self._shape.config, num_columns=0)
        process_s = 0.0
        for requests in kernels.runs:
            config = EngineConfig(max_step_tokens=self._max_step_tokens, batch_invariance=invariance)
            engine = Engine(self._transformer, self._shape.tokens, config)
            started_s = time.process_time()
            with meter.watching(self._transformer):
                for request in requests:
                    engine.submit(request)
                while engine.num_unfinished:
                    assert not any(isinstance(result, RequestFailed) for result in engine.step())
            process_s += time.process_time() - started_s
        kernels.flops.append(meter.flops.total)
        kernels.process_s.append(process_s)

    def padding(self, kernels: KernelOptions) -> dict[str, int]:
        """Rows computed and rows of real tokens, without the least sizes that batch invariance asks for on CPUs."""
        real, counted = RealRows(self._shape.config.num_layers), RowCount()
        hook = self._transformer.register_forward_pre_hook(lambda _, arguments: real.add(arguments[0]))
        with counted:
            self.run(KernelOptions(kernels.name, kernels.runs), "off")
        hook.remove()
        return {
            "product_rows": counted.product_rows,
            "padded_product_rows": counted.product_rows - real.product_rows,
            "query_rows": counted.query_rows,
            "padded_query_rows": counted.query_rows - real.query_rows,
        }


def throughput_ratios(mixed: KernelOptions, separate: KernelOptions) -> list[float]:
    """Throughput of the mixed run over that of the separate ones, a pair each repeat."""
    rates = [
        [flops / seconds for flops, seconds in zip(kernels.flops, kernels.process_s, strict=True)]
        for kernels in (mixed, separate)
    ]
    return [together / apart for together, apart in zip(*rates, strict=True)]


def ways_of(shape: Shape, options: argparse.Namespace) -> tuple[KernelOptions, KernelOptions]:
    """The work mixed, in an order drawn once, and kind by kind."""
    preset, count = find_preset(options.preset), options.count
    sizes = [parse_size(size) for size in options.sizes.split(",")]
    cases = [image_case(shape, size, options.steps, count, preset) for size in sizes]
    cases.append(caption_case(shape, min(sizes[0]), count, preset))
    kinds = [case.build(case.num_steps, _CPU) for case in cases]
    together = [request for requests in kinds for request in requests]
    random.Random(0).shuffle(together)
    return KernelOptions("mixed", [together]), KernelOptions("separate", kinds)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed", description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="proportional", help="the model")
    parser.add_argument("--sizes", default="128x128,256x128,256x256", help="of the images")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps of an image")
    parser.add_argument("--count", type=int, default=8, help="requests of each kind")
    parser.add_argument("--preset", choices=list(PRESETS), default=DEFAULT_PRESET)
    parser.add_argument("--max-step-tokens", type=int, default=2048, help="that every kind alone fills, too")
    parser.add_argument("--repeats", type=int, default=3, help="pairs")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--out", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the numbers if asked to."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    shape = SHAPES[options.shape]
    mixed, separate = ways_of(shape, options)
    benchmark = MixedBenchmark(shape, options.max_step_tokens)
    padding = benchmark.padding(mixed)  # and the warm-up
    for repeat in range(options.repeats):
        for kernels in (mixed, separate) if repeat % 2 else (separate, mixed):
            benchmark.run(kernels)
    ratios = throughput_ratios(mixed, separate)
    seconds = ", ".join(f"{kernels.name} {median(kernels.process_s):.2f}" for kernels in (mixed, separate))
    print(f"{len(mixed.runs[0])} requests, {options.preset}: median process s: {seconds}")
    print(f"padding: {padding['padded_product_rows']:,} of {padding['product_rows']:,} rows of products, ", end="")
    print(f"{padding['padded_query_rows']:,} of {padding['query_rows']:,} queries of attention")
    print(f"mixed throughput over separate: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    if options.out is not None:
        write_result(
            options.out,
            {
                "benchmark": "mixed",
                **environment(_CPU),
                "settings": {name: value for name, value in vars(options).items() if name != "out"},
                "median_ratio": median(ratios),
                "ratios": ratios,
                "ways": [
                    {"name": kernels.name, "flops": kernels.flops, "process_s": kernels.process_s}
                    for kernels in (mixed, separate)
                ],
                "padding": padding,
            },
        )


if __name__ == "__main__":
    main()
