"""GPUs by name: arithmetic, memory, and what an hour may cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dimoo_core.errors import ConfigError

USED_SHARE = 0.5
"""Of the peak, where nothing was measured: the reference's published 58.2 s for 1536x768 on an A800 is 0.58 of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """Dense bf16 matrix products, from the makers' data sheets; the price is a round figure, to be replaced."""

    name: str
    tflops: float
    memory_gb: int
    usd_per_hour: float


GPUS: Mapping[str, Gpu] = MappingProxyType(
    {
        gpu.name: gpu
        for gpu in (
            Gpu(name="B200", tflops=2250.0, memory_gb=180, usd_per_hour=5.0),
            Gpu(name="H200", tflops=989.4, memory_gb=141, usd_per_hour=3.5),
            Gpu(name="H100", tflops=989.4, memory_gb=80, usd_per_hour=2.5),
            Gpu(name="A100", tflops=312.0, memory_gb=80, usd_per_hour=1.5),
            Gpu(name="A800", tflops=312.0, memory_gb=80, usd_per_hour=1.5),
            Gpu(name="L40S", tflops=362.0, memory_gb=48, usd_per_hour=1.0),
            Gpu(name="RTX4090", tflops=165.2, memory_gb=24, usd_per_hour=0.5),
        )
    }
)


def find_gpus(names: tuple[str, ...], prices: Mapping[str, float]) -> list[Gpu]:
    """The GPUs of these names, all if there are none, with given prices in place of the table's.

    Raises:
        ConfigError: A name is not in the table.
    """
    for name in (*names, *prices):
        if name not in GPUS:
            raise ConfigError(f"GPU {name!r} is not in the table: give one of {', '.join(GPUS)}")
    chosen = [GPUS[name] for name in names] or list(GPUS.values())
    return [
        Gpu(
            name=gpu.name,
            tflops=gpu.tflops,
            memory_gb=gpu.memory_gb,
            usd_per_hour=prices.get(gpu.name, gpu.usd_per_hour),
        )
        for gpu in chosen
    ]
