"""Noise belongs to a request: its seed, the step, the purpose, and nothing else."""

import pytest
import torch
from torch import Tensor

from benchmarks.reference_noise import GeneratorNoise, RecordedNoise
from dimoo_core.request.noise import NoiseSource, Purpose, SeededNoise

CPU = torch.device("cpu")


def draw(
    source: NoiseSource,
    step: int,
    purpose: Purpose = "sample",
    shape: tuple[int, ...] = (4, 3),
    rows: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    return source.uniform(step, purpose, shape, rows=rows, dtype=dtype)


def test_seeded_noise_is_a_function_of_seed_step_and_purpose() -> None:
    draws = {
        (seed, step, purpose): draw(SeededNoise(seed, CPU), step, purpose)
        for seed in (1, 2)
        for step in (0, 1)
        for purpose in ("sample", "confidence")
    }
    assert len({tuple(noise.flatten().tolist()) for noise in draws.values()}) == 8
    source = SeededNoise(1, CPU)
    assert torch.equal(draw(source, 1), draws[1, 1, "sample"])
    assert torch.equal(draw(source, 0, "confidence"), draws[1, 0, "confidence"])
    assert torch.equal(draw(source, 1), draws[1, 1, "sample"])


def test_seeded_noise_leaves_torchs_own_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    draw(SeededNoise(1, CPU), 0)
    assert torch.equal(torch.rand(3), expected)


def test_seeded_noise_for_some_rows_fills_only_those() -> None:
    noise = draw(SeededNoise(1, CPU), 0, shape=(1000, 3), rows=torch.tensor([7, 900]))
    assert noise.shape == (2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_uniform_in_its_type(dtype: torch.dtype) -> None:
    noise = draw(SeededNoise(3, CPU), 0, shape=(10_000,), dtype=dtype)
    assert noise.dtype == dtype
    assert 0 <= noise.min() < 0.01 < 0.99 < noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.02


def test_generator_noise_draws_whole_steps_in_order() -> None:
    generator = torch.Generator().manual_seed(9)
    expected = [torch.rand(4, 3, generator=generator) for _ in range(3)]
    source = GeneratorNoise(torch.Generator().manual_seed(9))
    assert torch.equal(draw(source, 0), expected[0])
    assert torch.equal(draw(source, 0, "confidence", rows=torch.tensor([2])), expected[1][[2]])
    assert torch.equal(draw(source, 1), expected[2])


def test_generator_noise_fills_steps_that_were_not_run() -> None:
    """Each of them drew what the step before the gap drew."""
    generator = torch.Generator().manual_seed(9)
    for _ in range(3):
        torch.rand(4, 3, generator=generator)
        torch.rand(4, generator=generator, dtype=torch.float64)
    expected = torch.rand(4, 3, generator=generator)
    source = GeneratorNoise(torch.Generator().manual_seed(9))
    draw(source, 0)
    draw(source, 0, "confidence", shape=(4,), dtype=torch.float64)
    assert torch.equal(draw(source, 3), expected)


def test_recorded_noise_is_looked_up() -> None:
    recorded = torch.arange(12.0).view(1, 4, 3)
    source = RecordedNoise({(2, "sample"): recorded})
    assert torch.equal(draw(source, 2), recorded[0])
    assert torch.equal(draw(source, 2, rows=torch.tensor([3])), recorded[0, [3]])


def test_noise_that_was_not_recorded_is_an_error() -> None:
    source = RecordedNoise({(2, "sample"): torch.zeros(4, 3)})
    with pytest.raises(KeyError):
        draw(source, 2, "confidence")
    with pytest.raises(ValueError, match=r"noise of step 2 for sample must have shape \(5, 3\), got \(4, 3\)"):
        draw(source, 2, shape=(5, 3))
