"""Noise as the reference draws it, to replay one of its runs: from one generator, or recorded."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dimoo_core.request.noise import Purpose


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
