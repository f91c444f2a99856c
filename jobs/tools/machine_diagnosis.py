"""What the doctor looks at on this machine: versions, GPU, memory for Ray, disk, the Ray cluster."""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dimoo_core.errors import ConfigError
from jobs.tools.diagnosis import Diagnosis

_GIB = 2**30
_LEAST_DISK_BYTES = 2 * _GIB
_LEAST_SHARED_BYTES = 128 * 2**20
_NEEDED = ("torch", "ray", "pyarrow", "transformers", "boto3", "pillow")


def diagnose_versions() -> Iterator[Diagnosis]:
    """Python, and every package that this distribution asks for, against the versions it asks for."""
    from packaging.requirements import Requirement

    python = ".".join(map(str, sys.version_info[:3]))
    yield Diagnosis("python", "ok", python)
    problems, found = [], []
    for line in importlib.metadata.requires("dimoo-batch") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None:
            problems.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{requirement.name} is {version}, needed is {requirement.specifier}")
        elif requirement.name in _NEEDED:
            found.append(f"{requirement.name} {version}")
    if problems:
        fix = "pip install --upgrade dimoo-batch in an environment of its own"
        yield Diagnosis("packages", "wrong", "; ".join(problems), fix)
    else:
        yield Diagnosis("packages", "ok", ", ".join(found))


def diagnose_gpu() -> Diagnosis:
    """Whether there is a GPU, and whether torch can use it."""
    import torch

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        free, total = torch.cuda.mem_get_info()
        memory = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free on the first"
        return Diagnosis("gpu", "ok", f"{len(names)}: {', '.join(sorted(set(names)))}; {memory}")
    if hidden is not None and hidden.strip() in ("", "-1") and _has_nvidia():
        fix = "unset CUDA_VISIBLE_DEVICES, or set it to the numbers of the GPUs to use"
        return Diagnosis("gpu", "wrong", f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU", fix)
    if _has_nvidia() and torch.version.cuda is None:
        fix = "install a torch built for CUDA: see the selector on the PyTorch site for the index to install from"
        return Diagnosis(
            "gpu", "wrong", f"this machine has an NVIDIA GPU, torch {torch.__version__} is built without CUDA", fix
        )
    if _has_nvidia():
        fix = "run nvidia-smi; the driver has to be as new as the CUDA that torch was built for"
        return Diagnosis("gpu", "wrong", f"an NVIDIA GPU that torch (CUDA {torch.version.cuda}) cannot use", fix)
    fix = "the embedded model runs well on a CPU; the published one needs a GPU with 24 GB"
    return Diagnosis("gpu", "warning", "none", fix)


def diagnose_shared_memory(folder: Path = Path("/dev/shm")) -> Diagnosis:
    """Whether Ray finds room for its object store."""
    if not folder.is_dir():
        return Diagnosis("memory", "ok", f"no {folder} on this system")
    size = shutil.disk_usage(folder).total
    if size < _LEAST_SHARED_BYTES:
        found = f"{folder} has {size / 2**20:.0f} MiB, workers of Ray need {_LEAST_SHARED_BYTES // 2**20}"
        return Diagnosis("memory", "wrong", found, "start the container with --shm-size=1g, or use --workers 0")
    return Diagnosis("memory", "ok", f"{size / _GIB:.1f} GiB of shared memory")


def diagnose_disk() -> Diagnosis:
    """Whether temporary files and downloads of models have room."""
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if free < _LEAST_DISK_BYTES:
        fix = f"free some space, or set TMPDIR to a folder with at least {_LEAST_DISK_BYTES // _GIB} GiB"
        return Diagnosis("disk", "wrong", f"{free / _GIB:.2f} GiB free in {folder}", fix)
    return Diagnosis("disk", "ok", f"{free / _GIB:.1f} GiB free in {folder}")


def diagnose_ray(address: str | None) -> Diagnosis:
    """Whether the cluster that a run would join answers; without an address a run starts a Ray of its own."""
    from jobs.run.cluster import known_address, ray_cluster, short_temporary_folder

    known = known_address(address)
    if known is None:
        try:
            folder = short_temporary_folder()
        except ConfigError as error:
            return Diagnosis("ray", "wrong", str(error), "set RAY_TMPDIR, or use --workers 0")
        found = f"no cluster named: a run starts one on this machine for its own time, with its files in {folder}"
        return Diagnosis("ray", "ok", found)
    try:
        with ray_cluster(known, num_workers=1) as num_gpus:
            return Diagnosis("ray", "ok", f"cluster at {known}, {num_gpus} GPUs")
    except ConfigError as error:
        fix = "start the cluster, correct ray.address or RAY_ADDRESS, or unset it to run on this machine alone"
        return Diagnosis("ray", "wrong", str(error), fix)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _has_nvidia() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
