"""Peak arithmetic of named devices."""

import re

_PEAK_BF16_TFLOPS = {
    "H200 NVL": 835.5,
    "H200": 989.4,
    "H100 NVL": 835.5,
    "H100 PCIE": 756.5,
    "H100": 989.4,
    "A800": 312.0,
    "A100": 312.0,
}
"""Dense bf16 matrix products with float32 sums, from the makers' data sheets; the longest name that fits counts."""


def peak_flops(device_name: str) -> float | None:
    """FLOP/s in bf16 of a device by the name that CUDA gives it; None if it is not in the table."""
    words = set(re.findall(r"\w+", device_name.upper()))
    fitting = [name for name in _PEAK_BF16_TFLOPS if words.issuperset(name.split())]
    return _PEAK_BF16_TFLOPS[max(fitting, key=len)] * 1e12 if fitting else None
