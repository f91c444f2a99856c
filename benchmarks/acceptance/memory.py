"""The most memory that a turn took, above what the process held before it."""

import re
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class MemoryMeter:
    """Peak since it was made: of torch's allocator on CUDA, of resident memory on a CPU.

    On a CPU memory that an earlier turn gave back to the allocator, not to the system, is not seen to be taken again.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_known = True
        self._before = 0
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
            return
        try:
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
            self._before = _status("VmRSS")
        except OSError:  # not Linux, or not allowed
            self._is_known = False

    def peak_bytes(self) -> int | None:
        """None where the system does not tell."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device)) - self._before
        return _status("VmHWM") - self._before if self._is_known else None


def free_bytes(device: torch.device) -> int | None:
    """What is free on the device; None where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(Path("/proc/meminfo")), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", _text(_STATUS), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
