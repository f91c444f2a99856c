"""Finding a checkpoint: the embedded one, a directory, or a repository of the Hugging Face hub at a fixed revision."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from dimoo_core.checkpoint.hub import download
from dimoo_core.errors import WeightsError

BUILTIN = "builtin"
"""Name of the small trained checkpoint that is installed with the package."""

_BUILTIN_DIRECTORY = Path(__file__).parents[1] / "builtin"
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_FILES = ("*.json", "*.safetensors", "vqvae/*.json", "vqvae/*.safetensors")
_WHOLE_BYTES = 64 * 2**20  # files up to this size are digested whole
_SAMPLES, _SAMPLE_BYTES = 64, 2**20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on local disk and the name by which every process finds the same one."""

    name: str  # the absolute directory, ID@COMMIT, or builtin
    directory: Path


def find_checkpoint(model: str) -> Checkpoint:
    """Resolve ``builtin``, a directory or a hub id, downloading the latter.

    A branch, or no revision for the main one, is resolved to the commit that it points to now, so that the name of the
    returned checkpoint means the same weights for every worker and every resume. Without a connection, to the commit
    that it pointed to at the last download.

    Args:
        model: ``builtin``, a directory laid out as the published repository, ``OWNER/NAME`` or
            ``OWNER/NAME@REVISION``. A directory that is itself named ``builtin`` is ``./builtin``.

    Raises:
        WeightsError: If neither exists.
    """
    if model == BUILTIN:
        return Checkpoint(BUILTIN, _BUILTIN_DIRECTORY)
    directory = Path(model).expanduser()
    if model and directory.is_dir():
        return Checkpoint(str(directory.resolve()), directory.resolve())
    match = _HUB_ID.fullmatch(model)
    if match is None:
        raise WeightsError(
            f"no checkpoint at {model!r}: give {BUILTIN}, a directory, OWNER/NAME or OWNER/NAME@REVISION"
        )
    path = download(match["repo"], match["revision"])
    return Checkpoint(f"{match['repo']}@{path.name}", path)  # the hub's cache has one directory per commit


def digest(directory: Path) -> str:
    """A digest that tells checkpoints apart: names, sizes and contents.

    Files beyond 64 MiB are read at 64 evenly spaced places of 1 MiB, so that 16 GB of weights take a second.

    Raises:
        WeightsError: If a file cannot be read.
    """
    hasher = hashlib.blake2b(digest_size=16)
    paths = {path for pattern in _FILES for path in directory.glob(pattern) if not path.is_dir()}
    for path in sorted(paths, key=lambda path: path.relative_to(directory).as_posix()):
        try:
            _add_file(hasher, path, path.relative_to(directory).as_posix())
        except OSError as error:
            raise WeightsError(f"{path} cannot be read ({error.strerror}): copy it again, or remove it") from error
    return hasher.hexdigest()


def _add_file(hasher: "hashlib.blake2b", path: Path, name: str) -> None:
    size = path.stat().st_size
    hasher.update(f"{name}:{size}:".encode())
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            hasher.update(file.read())
            return
        for sample in range(_SAMPLES):
            file.seek(sample * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            hasher.update(file.read(_SAMPLE_BYTES))
