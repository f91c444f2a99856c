"""What the batch-invariant mode costs on this CPU: the same requests with it and without it, by turns.

``python -m benchmarks.batch_invariance [--shape small] [--steps 8] [--repeats 9] [--threads 1] [--json FILE]``

Two engines with equal random weights run twelve requests of all tasks, all together and one after the other; the
latter is the worst case, since small products are the ones that are padded. Times are CPU times of the process.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from benchmarks.random_weights import random_transformer
from benchmarks.result_file import environment, write_result
from benchmarks.shape import SHAPES, Shape
from benchmarks.workload import mixed_requests
from dimoo_core.engine import Engine
from dimoo_core.engine_config import BatchInvariance, EngineConfig
from dimoo_core.request import Request


class RowCount(TorchFunctionMode):
    """Counts, within its block, the rows of every matrix product and the queries of every attention call."""

    def __init__(self) -> None:
        super().__init__()
        self.product_rows = 0
        self.query_rows = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear:
            self.product_rows += args[0].shape[0]
        elif func is F.scaled_dot_product_attention:
            self.query_rows += args[0].shape[0] * args[0].shape[2]
        return func(*args, **(kwargs or {}))


class Contender:
    """An engine with one setting of the mode."""

    def __init__(self, shape: Shape, invariance: BatchInvariance) -> None:
        self.transformer = random_transformer(shape)
        started_s = time.process_time()
        self._engine = Engine(self.transformer, shape.tokens, EngineConfig(batch_invariance=invariance))
        self.probe_s = time.process_time() - started_s

    def run(self, batches: Sequence[Sequence[Request]]) -> float:
        """CPU seconds to finish the batches, one after the other."""
        started_s = time.process_time()
        for batch in batches:
            for request in batch:
                self._engine.submit(request)
            while self._engine.num_unfinished:
                self._engine.step()
        return time.process_time() - started_s

    def count_rows(self, batches: Sequence[Sequence[Request]]) -> RowCount:
        """Rows computed for the batches."""
        count = RowCount()
        with count:
            self.run(batches)
        return count


def compare(on: Contender, off: Contender, batches: Sequence[Sequence[Request]], num_repeats: int) -> dict[str, Any]:
    """Times by turns, who goes first by turns too, and the rows that padding adds."""
    rows_on, rows_off = on.count_rows(batches), off.count_rows(batches)  # these runs are the warm-up
    on_s, off_s = [], []
    for repeat in range(num_repeats):
        if repeat % 2:
            on_s.append(on.run(batches))
            off_s.append(off.run(batches))
        else:
            off_s.append(off.run(batches))
            on_s.append(on.run(batches))
    ratios = [a / b for a, b in zip(on_s, off_s, strict=True)]
    return {
        "ratio": median(ratios),
        "ratios": ratios,
        "on_s": on_s,
        "off_s": off_s,
        "product_rows": rows_off.product_rows,
        "padded_product_rows": rows_on.product_rows - rows_off.product_rows,
        "query_rows": rows_off.query_rows,
        "padded_query_rows": rows_on.query_rows - rows_off.query_rows,
    }


def _print(name: str, result: dict[str, Any]) -> None:
    products = result["padded_product_rows"] / result["product_rows"]
    queries = result["padded_query_rows"] / result["query_rows"]
    print(f"{name}: on/off CPU time {result['ratio']:.3f} ", end="")
    print(f"({median(result['on_s']):.2f} s and {median(result['off_s']):.2f} s, {len(result['ratios'])} repeats)")
    print(
        f"  padded rows of products: {result['padded_product_rows']:,} on {result['product_rows']:,} ({products:.2%})"
    )
    print(f"  padded queries of attention: {result['padded_query_rows']:,} on {result['query_rows']:,} ({queries:.2%})")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the numbers if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.batch_invariance", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--shape", choices=sorted(SHAPES), default="small", help="the model")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps of an image")
    parser.add_argument("--repeats", type=int, default=9, help="alternated runs")
    parser.add_argument("--threads", type=int, default=1, help="of torch; CPU time of idle threads is noise")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    shape = SHAPES[options.shape]
    on, off = Contender(shape, "on"), Contender(shape, "off")
    requests = mixed_requests(shape, num_steps=options.steps)
    policy = on.transformer.row_policy
    print(f"{len(requests)} requests, {shape.name} model, {options.threads} threads")
    print(f"policy on this CPU: {policy}, found in {on.probe_s:.2f} s")
    together = compare(on, off, [requests], options.repeats)
    _print("all together", together)
    one_by_one = compare(on, off, [[request] for request in requests], options.repeats)
    _print("one by one", one_by_one)
    if options.json is not None:
        result = {
            "benchmark": "batch_invariance",
            **environment(torch.device("cpu")),
            "settings": {"shape": shape.name, "steps": options.steps, "num_requests": len(requests)},
            "policy": {"min_rows": policy.min_rows, "tile_rows": policy.tile_rows},
            "probe_s": on.probe_s,
            "together": together,
            "one_by_one": one_by_one,
        }
        write_result(options.json, result)


if __name__ == "__main__":
    main()
