"""How good a trained codec is, judged by the verifier on scenes that its training left out."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dimoo_core.checkpoint.weights import load_codec
from dimoo_core.codec.codec import ImageCodec
from shapes.split import Split
from shapes.task import sample
from shapes.tile import Codes, render_codes
from shapes.verifier import read_codes


@dataclass(frozen=True, slots=True)
class CodecScores:
    """Shares of images, in 0..1."""

    num_images: int
    encoded: float  # images all of whose codes are right
    verified: float  # images that the verifier reads right after encoding and decoding
    encoded_again: float  # images whose codes are the same after encoding, decoding and encoding
    rmse: float  # of pixels in 0..1, after encoding and decoding


def evaluate_codec(codec: ImageCodec, split: Split, num_images: int) -> CodecScores:
    """Scores on scenes and maps of a split: inputs and targets of tasks, with as many maps as scenes of one style."""
    grids = [_grid(seed, split) for seed in range(num_images)]
    images = [Image.fromarray(render_codes(grid)) for grid in grids]
    codes = codec.encode(images)
    decoded = codec.decode(codes)
    again = codec.encode(decoded)
    errors = [_error(image, copy) for image, copy in zip(images, decoded, strict=True)]
    return CodecScores(
        num_images=num_images,
        encoded=_share(_same(found.numpy(), grid) for found, grid in zip(codes, grids, strict=True)),
        verified=_share(_same(read_codes(copy), grid) for copy, grid in zip(decoded, grids, strict=True)),
        encoded_again=_share(_same(found.numpy(), grid) for found, grid in zip(again, grids, strict=True)),
        rmse=float(np.sqrt(np.mean(errors))),
    )


def _grid(seed: int, split: Split) -> Codes:
    """Three times in four a scene, else a map."""
    example = sample("captioning" if seed % 4 else "dense_prediction", seed, split)
    grid = example.inputs[0] if seed % 4 else example.target_codes
    assert grid is not None
    return grid


def _same(found: object, grid: Codes) -> bool:
    return isinstance(found, np.ndarray) and np.array_equal(found, grid)


def _share(claims: Iterable[bool]) -> float:
    return float(np.mean(list(claims)))


def _error(image: Image.Image, copy: Image.Image) -> float:
    difference = np.asarray(image, dtype=np.float32) - np.asarray(copy, dtype=np.float32)
    return float(np.square(difference / 255).mean())


def main() -> None:
    """``python -m shapes.codec_evaluation DIR [IMAGES]``: scores on test scenes."""
    torch.set_num_threads(1)
    codec = load_codec(Path(sys.argv[1]), device="cpu", max_batch=16)
    print(evaluate_codec(codec, "test", int(sys.argv[2]) if len(sys.argv) > 2 else 1000))


if __name__ == "__main__":
    main()
