"""Uniform noise that belongs to a request: a function of its seed, the step and the purpose, never of its batch."""

import hashlib
from typing import Literal, Protocol

import torch
from torch import Tensor

Purpose = Literal["sample", "confidence"]
"""What a draw decides: the id at each masked position, or which positions are decided."""


class NoiseSource(Protocol):
    """Draws of one request. Each (step, purpose) is asked for at most once, in the order in which steps run."""

    def uniform(
        self, step: int, purpose: Purpose, shape: tuple[int, ...], *, rows: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """Noise in [0, 1) for the given rows of a draw of ``shape``, or for all of it if ``rows`` is None."""


class SeededNoise:
    """Noise keyed by (seed, step, purpose): restarts, batch mates and workers cannot change it.

    A draw for some rows fills only those. Values depend on the kind of device: CPU and CUDA generators differ.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        self._generator = torch.Generator(device)

    def uniform(
        self, step: int, purpose: Purpose, shape: tuple[int, ...], *, rows: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """See ``NoiseSource``."""
        digest = hashlib.blake2b(f"{self.seed}:{step}:{purpose}".encode(), digest_size=8).digest()
        self._generator.manual_seed(int.from_bytes(digest, "big") >> 1)
        if rows is not None:
            shape = (len(rows), *shape[1:])
        return torch.rand(shape, generator=self._generator, device=self._generator.device, dtype=dtype)
