"""What the doctor looks at for a run: the store it would write to, and the model it would load."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from dimoo_core.errors import ConfigError
from dimoo_core.memory_need import size_words
from jobs.diagnosis import Diagnosis
from pipeline.object_reader import open_store
from pipeline.store import Store
from pipeline.store_errors import AccessDenied, BucketNotFound, StoreError
from pipeline.uri import parse_uri

_GIB = 2**30
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


def diagnose_model(model: str) -> Diagnosis:
    """Whether the checkpoint is there and whole: all that can be known without reading its weights.

    A hub id is looked up in the cache of this machine only; nothing is downloaded.
    """
    from jobs.model_list import ModelState, model_entry

    entry = model_entry(model)
    if entry.state is ModelState.USABLE:
        return Diagnosis("model", "ok", entry.words())
    if entry.state is ModelState.NOT_HERE:
        return Diagnosis("model", "warning", entry.words(), "the first run downloads it; it needs a connection then")
    return Diagnosis("model", "wrong", entry.words(), "mend it as is said there, or give another --model")


def diagnose_model_memory(model: str) -> Iterator[Diagnosis]:
    """Whether one worker finds room here for a checkpoint that can be loaded, in the type that ``auto`` takes."""
    from jobs.model_list import ModelState, model_entry

    entry = model_entry(model)
    if entry.state is ModelState.USABLE and entry.directory is not None:
        yield _memory(Path(entry.directory))


def _memory(directory: Path) -> Diagnosis:
    import torch

    from jobs.adapter import check_model
    from jobs.run_memory import check_run_memory, memory_of_model
    from jobs.workers import Workers

    device, dtype = ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
    chosen: list[str] = []
    try:
        need = memory_of_model(check_model(directory, None), device, "bfloat16" if dtype == "bfloat16" else "float32")
        here = Workers(0, device, 0, 0)
        need = check_run_memory(need, here, is_auto=True, is_recorded=False, say=chosen.append)
    except ConfigError as error:
        found, _, ways = str(error).partition("; what fits: ")
        return Diagnosis("model memory", "wrong", found, ways or "free some memory, or use a machine with more")
    size = size_words(need.host_bytes if need.is_on_host else need.model_bytes)
    told = chosen[0] if chosen else f"a worker takes {size} in {need.dtype} on {device}"
    return Diagnosis("model memory", "ok", told)


def _room(store: Store) -> Iterator[Diagnosis]:
    location = parse_uri(store.uri)
    if location.scheme != "file":
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
        return "create the bucket, or correct its name in the output"
    if isinstance(error, AccessDenied):
        return "check the AWS credentials, and that they may get, put, list and delete objects below the output"
    if error.code in _FIXES:
        return _FIXES[error.code]
    if error.retryable:
        return "check AWS_ENDPOINT_URL, the network and whether the store is up"
    return "see what the store says"
