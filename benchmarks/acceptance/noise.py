"""The reference's noise for the engine: the same draws, in the type in which the reference takes them."""

import torch
from torch import Tensor

from benchmarks.reference_noise import GeneratorNoise
from dimoo_core.request.noise import Purpose


class ReplayedNoise:
    """Draws of one request from a generator with the row's seed, whole; the latest of each purpose is kept.

    The reference draws for images in the type of its weights, so bfloat16 draws are other numbers than float32 ones.
    """

    def __init__(self, seed: int, device: torch.device, dtype: torch.dtype) -> None:
        self._source = GeneratorNoise(generator(seed, device))
        self._dtype = dtype
        self.latest: dict[Purpose, Tensor] = {}

    def uniform(
        self, step: int, purpose: Purpose, shape: tuple[int, ...], *, rows: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """See ``NoiseSource``."""
        drawn = self._source.uniform(step, purpose, shape, rows=None, dtype=self._dtype).to(dtype)
        self.latest[purpose] = drawn
        return drawn if rows is None else drawn[rows]


def generator(seed: int, device: torch.device) -> torch.Generator:
    """The generator that either implementation draws from."""
    return torch.Generator(device).manual_seed(seed)
