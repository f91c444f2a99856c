"""What the batch-invariant mode costs on this CPU: the same requests with it and without it, by turns.

``python -m benchmarks.batch_invariance [--shape small] [--steps 8] [--repeats 9] [--threads 1] [--json FILE]``

Two engines with equal random weights run twelve requests of all tasks, all together and one after the other; the
latter is the worst case, since small products are the ones that are padded. Times are CPU times of the process.
"""

import argparse
import time
from collections import deque
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
from dimoo_core.engine.engine import Engine
from dimoo_core.request.request import Request
from dimoo_core.settings import BatchInvariance, EngineConfig


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
    """An engine with one setting of the mode, and the CPU seconds that its steps took."""

    def __init__(self, shape: Shape, invariance: BatchInvariance) -> None:
        self.transformer = random_transformer(shape)
        started_s = time.process_time()
        self.engine = Engine(self.transformer, shape.tokens, EngineConfig(batch_invariance=invariance))
        self.probe_s = time.process_time() - started_s
        self.cpu_s = 0.0

    def step(self) -> None:
        """One step, if there is anything to do."""
        started_s = time.process_time()
        self.engine.step()
        self.cpu_s += time.process_time() - started_s


def run_in_turns(contenders: Sequence[Contender], batches: Sequence[Sequence[Request]]) -> list[float]:
    """CPU seconds of each contender to finish the batches, one after the other.

    They take turns step by step, and who goes first takes turns too: a machine that is slow for a while is slow for
    all of them.
    """
    for contender in contenders:
        contender.cpu_s = 0.0
    order = deque(contenders)
    for batch in batches:
        for contender in contenders:
            for request in batch:
                contender.engine.submit(request)
        while any(contender.engine.num_unfinished for contender in contenders):
            for contender in order:
                contender.step()
            order.rotate()
    return [contender.cpu_s for contender in contenders]


def count_rows(contender: Contender, batches: Sequence[Sequence[Request]]) -> RowCount:
    """Rows computed for the batches."""
    count = RowCount()
    with count:
        run_in_turns([contender], batches)
    return count


def compare(on: Contender, off: Contender, batches: Sequence[Sequence[Request]], num_repeats: int) -> dict[str, Any]:
    """Times by turns, and the rows that padding adds."""
    rows_on, rows_off = count_rows(on, batches), count_rows(off, batches)  # these runs are the warm-up
    repeats = [run_in_turns([on, off], batches) for _ in range(num_repeats)]
    ratios = [on_s / off_s for on_s, off_s in repeats]
    return {
        "ratio": median(ratios),
        "ratios": ratios,
        "on_s": [on_s for on_s, _ in repeats],
        "off_s": [off_s for _, off_s in repeats],
        "product_rows": rows_off.product_rows,
        "padded_product_rows": rows_on.product_rows - rows_off.product_rows,
        "query_rows": rows_off.query_rows,
        "padded_query_rows": rows_on.query_rows - rows_off.query_rows,
    }


def _print(name: str, result: dict[str, Any]) -> None:
    products = result["padded_product_rows"] / result["product_rows"]
    queries = result["padded_query_rows"] / result["query_rows"]
    low, high = min(result["ratios"]), max(result["ratios"])
    print(
        f"{name}: on/off CPU time {result['ratio']:.3f} ({low:.3f} to {high:.3f} in {len(result['ratios'])} repeats; ",
        end="",
    )
    print(f"medians {median(result['on_s']):.2f} s and {median(result['off_s']):.2f} s)")
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
    policy = on.transformer.invariance_policy
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
