"""``python -m benchmarks.full_size --directory DIR``: the published model's size, loaded and run once on a CPU.

Random weights of the published shape are written shard by shard, 16 GB in bfloat16; an interrupted call goes on where
it was. They are loaded in bfloat16, and one image of 64x64 pixels is made in one step. Measured are the memory that the
process takes over its weights, and the time that loading takes over reading the same files: their bytes are read in the
same process before, cold (dropped from the page cache first) and once more.
"""

import argparse
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_checkpoint import write_random_checkpoint
from benchmarks.result_file import environment, write_result
from dimoo_core.checkpoint.check import check_checkpoint
from dimoo_core.checkpoint.load import Model, load_model
from dimoo_core.engine.engine import Engine
from dimoo_core.errors import ConfigError, DimooError
from dimoo_core.memory.check import check_memory, resident_bytes
from dimoo_core.memory.need import MemoryNeed, RequestShape, size_words, weight_bytes
from dimoo_core.model_config import DIMOO_8B, ModelConfig
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import ImageResult
from dimoo_core.settings import ImageSettings

_RESULT = Path(__file__).parent / "results" / "full-size.json"
_MARK = ".made-by-full-size"
_READ_BYTES = 16 * 2**20
_SAMPLE_S = 0.005
_OF_WEIGHTS = 1.05  # room on the disk: weights, and what lies beside them
_SETTINGS = ImageSettings(width_px=64, height_px=64, num_steps=1)


@dataclass(slots=True)
class Peak:
    """The most that this process had in memory while it was watched, files that it maps left out."""

    num_bytes: int = 0


@contextmanager
def watched_memory() -> Iterator[Peak]:
    """Look at this process's memory all the time, on a thread."""
    peak, end = Peak(), threading.Event()

    def look() -> None:
        while not end.wait(_SAMPLE_S):
            peak.num_bytes = max(peak.num_bytes, resident_bytes())

    thread = threading.Thread(target=look, name="memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        end.set()
        thread.join()
        peak.num_bytes = max(peak.num_bytes, resident_bytes())


def make_checkpoint(directory: Path, shape: dict[str, int]) -> None:
    """Write what is not there yet.

    Raises:
        ConfigError: The disk has too little room, or something else lies there.
    """
    if directory.exists() and any(directory.iterdir()) and not (directory / _MARK).exists():
        raise ConfigError(f"{directory} holds something else: give a folder that is empty or not there")
    directory.mkdir(parents=True, exist_ok=True)
    sizes = {name: shape[name] for name in ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "mlp_size")}
    config = ModelConfig(num_embeddings=DIMOO_8B.num_embeddings, **sizes)
    there = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    needed = max(0, int(weight_bytes(config, "bfloat16") * _OF_WEIGHTS) - there)
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise ConfigError(f"{directory}: {size_words(needed)} of disk are needed, {size_words(free)} are free")
    (directory / _MARK).touch()
    write_random_checkpoint(directory, **shape, vocabulary="published", keep_shards=True)


def measure(directory: Path) -> dict[str, Any]:
    """Read, load, make an image.

    Raises:
        ConfigError: Memory is too small.
    """
    files = sorted(directory.rglob("*.safetensors"))
    need = _need(directory)
    check_memory(need)
    _drop_from_cache(files)
    cold_s, warm_s = _read(files), _read(files)
    _drop_from_cache(files)
    before = resident_bytes()
    with watched_memory() as loading:
        started_s = time.perf_counter()
        model = load_model(directory, device="cpu", dtype="bfloat16")
        load_s = time.perf_counter() - started_s
    with watched_memory() as running:
        started_s = time.perf_counter()
        size = _image(model)
        image_s = time.perf_counter() - started_s
    weights, peak = weight_bytes(model.config, "bfloat16"), max(loading.num_bytes, running.num_bytes)
    return {
        "num_parameters": weights // 2,
        "image": f"{size[0]}x{size[1]}, {_SETTINGS.num_steps} step",
        "file_bytes": sum(path.stat().st_size for path in files),
        "weight_bytes": weights,
        "before_bytes": before,
        "peak_loading_bytes": loading.num_bytes,
        "peak_bytes": peak,
        "over_weights_bytes": peak - weights,
        "estimated_bytes": need.host_bytes,
        "read_cold_s": round(cold_s, 3),
        "read_warm_s": round(warm_s, 3),
        "load_cold_s": round(load_s, 3),
        "beyond_reading_s": round(load_s - cold_s, 3),
        "image_s": round(image_s, 3),
    }


def _need(directory: Path) -> MemoryNeed:
    found = check_checkpoint(directory)
    return MemoryNeed(
        config=found.config,
        codec=found.codec,
        dtype="bfloat16",
        device="cpu",
        shape=RequestShape.of_image(
            _SETTINGS, _SETTINGS.width_px * _SETTINGS.height_px, 0, found.codec.num_vq_embeddings
        ),
    )


def _image(model: Model) -> tuple[int, int]:
    engine = Engine(model.transformer, model.tokens)
    engine.submit(model.layout.text_to_image("0", "a lighthouse", _SETTINGS, SeededNoise(0, model.device)))
    (result,) = engine.step()
    assert isinstance(result, ImageResult)
    (image,) = model.codec.decode([result.vq_codes])
    return image.size


def _read(files: list[Path]) -> float:
    """Seconds for all bytes, one file after the other."""
    buffer = bytearray(_READ_BYTES)
    started_s = time.perf_counter()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - started_s


def _drop_from_cache(files: list[Path]) -> None:
    """Ask the kernel to forget what it has of these files; they are on the disk already."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(arguments: list[str] | None = None) -> None:
    """Write a checkpoint, measure, write the result; the checkpoint goes unless it is to be kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="where the checkpoint goes; 16 GB are written")
    parser.add_argument("--keep", action="store_true", help="leave the checkpoint there")
    parser.add_argument("--result", type=Path, default=_RESULT)
    for name in ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "mlp_size"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(DIMOO_8B, name))
    parser.add_argument("--num-shards", type=int, default=32)
    given = vars(parser.parse_args(arguments))
    directory, keep, result = given.pop("directory"), given.pop("keep"), given.pop("result")
    is_new = not directory.exists() or not any(directory.iterdir())
    try:
        make_checkpoint(directory, given)
        found = {"environment": environment(torch.device("cpu")), "shape": given, **measure(directory)}
    except DimooError as error:
        sys.exit(f"full_size: {error}")
    write_result(result, found)
    print(f"{result}: {size_words(found['peak_bytes'])} at the peak, {size_words(found['weight_bytes'])} are weights")
    if is_new and not keep:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
