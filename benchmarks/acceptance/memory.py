"""The most memory that a turn took, above what the process held before it."""

import ctypes
import gc
import re
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class MemoryMeter:
    """Peak above what was held when it was made: of torch's allocator on CUDA, of resident memory on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_known = True
        release(device)
        self._before = int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else _status("VmRSS")
        self.restart()

    def restart(self) -> None:
        """Forget the peak so far, not what was held before."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        try:
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
        except OSError:  # not Linux, or not allowed
            self._is_known = False

    def peak_bytes(self) -> int | None:
        """None where the system does not tell."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device)) - self._before
        return _status("VmHWM") - self._before if self._is_known else None


def release(device: torch.device) -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # glibc keeps small pieces, which would not be seen to be taken again


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
