"""Uniform noise that belongs to a request: a function of its seed, the step and the purpose, never of its batch."""

import hashlib
from collections.abc import Mapping
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


class GeneratorNoise:
    """Draws taken one after the other from one generator, whole, as the reference takes them: for replays.

    The reference draws at steps that decide nothing, too. Such steps are not run here, so a gap between two steps
    is filled by drawing what the step before the gap drew.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._step = 0
        self._drawn: list[tuple[tuple[int, ...], torch.dtype]] = []

    def uniform(
        self, step: int, purpose: Purpose, shape: tuple[int, ...], *, rows: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """See ``NoiseSource``."""
        if step > self._step:
            for _ in range(step - self._step - 1):
                for drawn_shape, drawn_dtype in self._drawn:
                    self._draw(drawn_shape, drawn_dtype)
            self._step, self._drawn = step, []
        self._drawn.append((shape, dtype))
        drawn = self._draw(shape, dtype)
        return drawn if rows is None else drawn[rows]

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self._generator.device, dtype=dtype)


class RecordedNoise:
    """Draws recorded elsewhere, by (step, purpose)."""

    def __init__(self, draws: Mapping[tuple[int, Purpose], Tensor]) -> None:
        self._draws = draws

    def uniform(
        self, step: int, purpose: Purpose, shape: tuple[int, ...], *, rows: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """See ``NoiseSource``.

        Raises:
            KeyError: If this draw was not recorded.
            ValueError: If it was recorded with another shape.
        """
        drawn = self._draws[step, purpose].reshape(-1, *shape[1:]).to(dtype)
        if tuple(drawn.shape) != shape:
            raise ValueError(f"noise of step {step} for {purpose} must have shape {shape}, got {tuple(drawn.shape)}")
        return drawn if rows is None else drawn[rows]
