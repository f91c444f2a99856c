"""Results as JSON files that say where they were measured."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch

_REPOSITORY = Path(__file__).parent.parent
_CPU_INFO = Path("/proc/cpuinfo")


def write_result(path: Path, result: Mapping[str, object]) -> None:
    """Write a result, in one piece: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def environment(device: torch.device) -> dict[str, object]:
    """Device, versions and commit."""
    return {
        "device": device_name(device),
        "device_memory_bytes": torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None,
        "num_threads": torch.get_num_threads() if device.type == "cpu" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "commit": _commit(),
    }


def device_name(device: torch.device) -> str:
    """What the maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of this source tree, with ``-dirty`` if the measured code differs from it; None without git."""
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--", "dimoo_core", "benchmarks/*.py")
    return f"{commit}-dirty" if commit and changed else commit


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", os.fspath(_REPOSITORY), *arguments]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
