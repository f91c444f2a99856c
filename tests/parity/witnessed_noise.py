"""Noise that remembers what was drawn from it."""

import hashlib

import torch
from torch import Tensor

from dimoo_core.request.noise import NoiseSource, Purpose


class WitnessedNoise:
    """Hands out another source's draws and keeps the whole ones, by (step, purpose)."""

    def __init__(self, source: NoiseSource) -> None:
        self._source = source
        self.draws: dict[tuple[int, Purpose], Tensor] = {}

    def uniform(
        self, step: int, purpose: Purpose, shape: tuple[int, ...], *, rows: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """See ``NoiseSource``."""
        drawn = self._source.uniform(step, purpose, shape, rows=rows, dtype=dtype)
        if rows is None:
            self.draws[step, purpose] = drawn
        return drawn


def sha256_of(values: Tensor) -> str:
    """Digest of a tensor's raw bytes."""
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()
