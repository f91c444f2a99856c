"""What looking at every weight costs a start: a checkpoint loaded with the look and without it, by turns.

``python -m benchmarks.loading [--layers 3] [--repeats 7] [--threads 2] [--directory DIR] [--json FILE]``

Random weights of bfloat16, layers of the published shape, lie in one file, in the page cache. Each contender loads all
of them; what it leaves out is taken from the product's own loader. Wall times say what a start waits, CPU times what
the look takes from other processes where no core is free.
"""

import argparse
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file

import dimoo_core.checkpoint.weights
from benchmarks.result_file import environment, write_result
from dimoo_core.checkpoint.check import expected_shapes
from dimoo_core.checkpoint.weights import load_transformer
from dimoo_core.model_config import DIMOO_8B, ModelConfig

_NUM_ROWS = 4096  # of embedding and head: the layers are what is measured
_CONTENDERS: dict[str, dict[str, Callable[..., Any]]] = {
    "neither": {"check_finite": lambda *_: None, "read_ahead": lambda items: items},
    "look, one after the other": {"read_ahead": lambda items: items},
    "read ahead": {"check_finite": lambda *_: None},
    "look and read ahead": {},
}
"""What stands in for the loader's own functions; the last is what is shipped."""


def write_weights(directory: Path, config: ModelConfig) -> int:
    """One file of random weights; returns its size in bytes."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02, generator=generator)
        for name, shape in expected_shapes(config).items()
    }
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    return (directory / "model.safetensors").stat().st_size


def load_s(directory: Path, config: ModelConfig, stand_ins: dict[str, Callable[..., Any]]) -> tuple[float, float]:
    """Wall and CPU seconds of one load."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    with patch.multiple(dimoo_core.checkpoint.weights, **stand_ins) if stand_ins else nullcontext():
        load_transformer(directory, config, device="cpu", dtype=torch.bfloat16)
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def compare(directory: Path, config: ModelConfig, num_repeats: int) -> dict[str, dict[str, Any]]:
    """Every contender's times; each goes first in turn, and the first round warms up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in _CONTENDERS}
    order = deque(_CONTENDERS)
    for _ in range(num_repeats + 1):
        for name in order:
            times[name].append(load_s(directory, config, _CONTENDERS[name]))
        order.rotate()
    walls = {name: [wall_s for wall_s, _ in pairs[1:]] for name, pairs in times.items()}
    cpus = {name: [cpu_s for _, cpu_s in pairs[1:]] for name, pairs in times.items()}
    return {
        name: {
            "wall_s": walls[name],
            "cpu_s": cpus[name],
            "wall_ratio": median(a / b for a, b in zip(walls[name], walls["neither"], strict=True)),
            "cpu_ratio": median(a / b for a, b in zip(cpus[name], cpus["neither"], strict=True)),
        }
        for name in _CONTENDERS
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the numbers if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, default=3, help="of 436 MB each")
    parser.add_argument("--hidden-size", type=int, default=DIMOO_8B.hidden_size, help="the published one by default")
    parser.add_argument("--repeats", type=int, default=7, help="alternated loads")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--directory", type=Path, help="where the file is written for a while")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    size = options.hidden_size
    config = replace(
        DIMOO_8B,
        hidden_size=size,
        mlp_size=3 * size,
        num_layers=options.layers,
        num_embeddings=_NUM_ROWS,
        image_token_offset=None,
    )
    with TemporaryDirectory(dir=options.directory) as directory:
        num_bytes = write_weights(Path(directory), config)
        results = compare(Path(directory), config, options.repeats)
    for name, result in results.items():
        print(
            f"{name}: {median(result['wall_s']):.2f} s, {num_bytes / median(result['wall_s']) / 1e9:.2f} GB/s "
            f"({result['wall_ratio']:.2f} of the time without either), CPU {median(result['cpu_s']):.2f} s "
            f"({result['cpu_ratio']:.2f})"
        )
    if options.json is not None:
        settings = {"num_bytes": num_bytes, "num_layers": options.layers, "repeats": options.repeats}
        write_result(options.json, {**environment(torch.device("cpu")), **settings, "results": results})


if __name__ == "__main__":
    main()
