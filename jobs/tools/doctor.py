"""What ``dimoo-batch doctor`` checks: this machine, and for a run the store it writes to and the model it loads."""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dimoo_core.errors import ConfigError
from dimoo_core.memory.need import size_words
from dimoo_core.settings import DtypeName
from pipeline.storage.base import Store
from pipeline.storage.errors import AccessDenied, BucketNotFound, StoreError
from pipeline.storage.reader import open_store
from pipeline.storage.uri import parse_uri

if TYPE_CHECKING:
    from dimoo_core.checkpoint.check import CheckedCheckpoint

Verdict = Literal["ok", "warning", "wrong"]
_MARKS: dict[Verdict, str] = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``found`` is what is so, ``fix`` what to do if it is not as it should be.

    A run cannot work with what is wrong; a warning is about what is slower, or misses, than it need be.
    """

    subject: str
    verdict: Verdict
    found: str
    fix: str = ""

    def lines(self) -> list[str]:
        """For people."""
        fix = [f"         {' ' * 12} fix: {self.fix}"] if self.fix else []
        return [f"{_MARKS[self.verdict]}  {self.subject:<12} {self.found}", *fix]


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
            problems.append(f"{requirement.name} is {version}, required is {requirement.specifier}")
        elif requirement.name in _NEEDED:
            found.append(f"{requirement.name} {version}")
    if problems:
        fix = "pip install --upgrade dimoo-batch in a separate environment"
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
        fix = "unset CUDA_VISIBLE_DEVICES, or set it to the GPUs to use"
        return Diagnosis("gpu", "wrong", f"CUDA_VISIBLE_DEVICES={hidden!r} hides all GPUs", fix)
    if _has_nvidia() and torch.version.cuda is None:
        fix = "install a torch built for CUDA: see the selector on the PyTorch site for the index to install from"
        return Diagnosis(
            "gpu", "wrong", f"this machine has an NVIDIA GPU, torch {torch.__version__} is built without CUDA", fix
        )
    if _has_nvidia():
        fix = "run nvidia-smi; the driver must support the CUDA version that torch was built for"
        return Diagnosis("gpu", "wrong", f"an NVIDIA GPU that torch (CUDA {torch.version.cuda}) cannot use", fix)
    fix = "the embedded model runs on a CPU; the published one needs a GPU with 24 GB"
    return Diagnosis("gpu", "warning", "none", fix)


def diagnose_shared_memory(folder: Path = Path("/dev/shm")) -> Diagnosis:
    """Whether Ray finds room for its object store."""
    if not folder.is_dir():
        return Diagnosis("memory", "ok", f"no {folder} on this system")
    size = shutil.disk_usage(folder).total
    if size < _LEAST_SHARED_BYTES:
        found = f"{folder} has {size / 2**20:.0f} MiB, Ray workers need {_LEAST_SHARED_BYTES // 2**20}"
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
    from jobs.run.workers import known_address, ray_cluster, short_temporary_folder

    known = known_address(address)
    if known is None:
        try:
            folder = short_temporary_folder()
        except ConfigError as error:
            return Diagnosis("ray", "wrong", str(error), "set RAY_TMPDIR, or use --workers 0")
        found = f"no cluster named: a run starts its own on this machine, with files in {folder}"
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


_LEAST_FREE_BYTES = _GIB
_FIXES = {
    "ConditionalWriteIgnored": "use a store with conditional writes (AWS S3, MinIO, Ceph, SeaweedFS of today)",
    "ConditionalWriteRefused": "use a store with conditional writes (AWS S3, MinIO, Ceph, SeaweedFS of today)",
    "ENOSPC": "free some space there, or give another output",
    "EACCES": "give an output that this user may write to",
    "EROFS": "give an output on a disk that can be written",
    "NotADirectory": "give an output that is a folder or does not exist yet",
}


def diagnose_store(output: str) -> Iterator[Diagnosis]:
    """Everything that a run needs of its store is tried with one small object, which is deleted again."""
    try:
        store = open_store(output)
    except (ConfigError, StoreError) as error:
        fix = "give a local path or s3://bucket/prefix; for S3 check AWS_PROFILE and the other AWS settings"
        yield Diagnosis("store", "wrong", str(error), fix)
        return
    try:
        store.check_writable()
        yield Diagnosis("store", "ok", f"{store.uri} can be written, listed, read, and written conditionally")
        yield from _room(store)
    except StoreError as error:
        yield Diagnosis("store", "wrong", str(error), _fix(error))
    finally:
        store.close()


def diagnose_model(model: str) -> Iterator[Diagnosis]:
    """Whether the checkpoint is there and whole, without reading its weights, and whether a worker has memory for it.

    A hub id is looked up in the cache of this machine only; nothing is downloaded.
    """
    from jobs.tools.catalog import ModelState, checked_model

    entry, found = checked_model(model)
    if found is not None:
        yield Diagnosis("model", "ok", entry.words())
        yield _memory(found)
    elif entry.state is ModelState.NOT_HERE:
        yield Diagnosis("model", "warning", entry.words(), "the first run downloads it and needs a connection")
    else:
        yield Diagnosis("model", "wrong", entry.words(), "fix it, or give another --model")


def _memory(found: "CheckedCheckpoint") -> Diagnosis:
    """Of one worker, in the type that ``auto`` takes."""
    import torch

    from dimoo_core.memory.check import check_mapping
    from jobs.run.resources import check_run_memory, memory_of_model
    from jobs.run.workers import Workers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype: DtypeName = "bfloat16" if device == "cuda" else "float32"
    try:
        check_mapping(found.directory)
        asked = memory_of_model(found, device, dtype)
        need = check_run_memory(asked, Workers(0, device, 0, 0), is_auto=True, is_recorded=False)
    except ConfigError as error:
        words, _, ways = str(error).partition("; what fits: ")
        return Diagnosis("model memory", "wrong", words, ways or "free some memory, or use a machine with more")
    size = size_words(need.host_bytes if need.is_on_host else need.model_bytes)
    instead = f", {asked.dtype} would need {size_words(asked.host_bytes)}" if need.dtype != asked.dtype else ""
    return Diagnosis("model memory", "ok", f"a worker takes {size} in {need.dtype} on {device}{instead}")


def _room(store: Store) -> Iterator[Diagnosis]:
    location = parse_uri(store.uri)
    if not location.is_local:
        return
    folder = Path(location.path)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE_BYTES:
        found = f"{free / _GIB:.2f} GiB free where the output lies, {folder}"
        yield Diagnosis("output disk", "wrong", found, "free some space there, or give another output")
    else:
        yield Diagnosis("output disk", "ok", f"{free / _GIB:.1f} GiB free")


def _fix(error: StoreError) -> str:
    if isinstance(error, BucketNotFound):
        return "create the bucket, or correct its name in --output"
    if isinstance(error, AccessDenied):
        return "check the AWS credentials and their rights: get, put, list and delete objects below the output"
    if error.code in _FIXES:
        return _FIXES[error.code]
    if error.retryable:
        return "check AWS_ENDPOINT_URL, the network and whether the store is up"
    return "see the message of the store"


def diagnose(output: str | None, model: str, ray_address: str | None) -> Iterator[Diagnosis]:
    """Everything that could keep a run from working: this machine, the model, and the store if ``output`` names one."""
    yield from diagnose_versions()
    yield diagnose_gpu()
    yield diagnose_shared_memory()
    yield diagnose_disk()
    yield diagnose_ray(ray_address)
    yield from diagnose_model(model)
    if output is not None:
        yield from diagnose_store(output)
