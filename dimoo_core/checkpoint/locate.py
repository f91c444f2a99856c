"""Finds a checkpoint: the embedded one, a directory, or a repository of the Hugging Face hub at a fixed revision."""

import errno
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from dimoo_core.errors import WeightsError
from dimoo_core.files import expanded_path

_PATTERNS = ("*.json", "*.safetensors")  # never code, never pickles
_FOLDER = "vqvae"
_LOGIN = "log in with 'hf auth login' or set HF_TOKEN"


def download(repo: str, revision: str | None) -> Path:
    """The local snapshot of a repository: its files of data in the root and in ``vqvae/``.

    Without a connection, the last download of the revision.

    Raises:
        WeightsError: Naming the cause and what helps.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    connection_error: type[Exception] = HfHubHTTPError.__mro__[1]  # the HTTP library's; its name depends on the version
    try:
        return Path(snapshot_download(repo, revision=revision, **downloaded_files()))
    except (
        connection_error,
        EntryNotFoundError,
        HFValidationError,
        OSError,
        RuntimeError,
    ) as error:  # the last is xet's
        shown = repo if revision is None else f"{repo}@{revision}"
        raise WeightsError(f"cannot download {shown!r}: {_cause(error, repo, revision)}") from error


def downloaded_files() -> dict[str, list[str]]:
    """Which files of a repository are taken, as options of ``snapshot_download``."""
    return {"allow_patterns": list(_PATTERNS), "ignore_patterns": _elsewhere()}


def _elsewhere() -> list[str]:
    """Patterns of every path in a folder that is not directly in ``vqvae/``.

    The hub's patterns are those of ``fnmatch``, whose * stands for slashes, too. So a folder of another name is
    described by how the name begins: unlike the one looked for from some letter on, shorter than it, or longer.
    """
    unlike = [f"{_FOLDER[:length]}[!{letter}/]*/*" for length, letter in enumerate(_FOLDER)]
    shorter = [f"{_FOLDER[:length]}/*" for length in range(1, len(_FOLDER))]
    return [*unlike, *shorter, f"{_FOLDER}[!/]*/*", f"{_FOLDER}/*/*"]


def _cause(error: Exception, repo: str, revision: str | None) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        DisabledRepoError,
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match error:
        case GatedRepoError():
            return f"it is gated, accept its conditions on its page, then {_LOGIN}"
        case RepositoryNotFoundError():
            return f"neither directory nor repository of that name, or it is private: check the name, or {_LOGIN}"
        case RevisionNotFoundError():
            return f"it has no revision {revision or constants.DEFAULT_REVISION!r}, give a branch, tag or commit of it"
        case DisabledRepoError():
            return "it is disabled on the hub"
        case HFValidationError():
            return "this is not a valid repository name"
        case HfHubHTTPError():
            return _answer(error.response.status_code)
        case EntryNotFoundError():
            return _not_cached(error, repo)
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"no space is left for its cache, {constants.HF_HUB_CACHE}: free some, or set HF_HOME to another disk"
            )
        case OSError() if error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
            place = error.filename or constants.HF_HUB_CACHE
            return f"its cache cannot be written ({place}: {error.strerror}): set HF_HOME to a directory that can"
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return f"the download failed ({reason}), check the network and the proxy, and run the same command again"


def _answer(status: int) -> str:
    if status in (401, 403):
        return f"the hub refuses this user's token ({status}), {_LOGIN}"
    return f"the hub answers with {status}, try again later"


def _not_cached(error: Exception, repo: str) -> str:
    """Why the hub was not asked, or did not answer, where this machine has no whole copy either."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    held = "has only a part of it" if hasattr(error, "snapshot_path") else "does not have it"
    cache = f"this machine's cache, {constants.HF_HUB_CACHE}, {held}"
    fetch = f"or run 'hf download {repo}' elsewhere and pass the folder"
    if constants.HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE is set, and {cache}: unset it, {fetch}"
    cause = error.__cause__
    if isinstance(cause, HfHubHTTPError):
        return f"{_answer(cause.response.status_code)}; {cache}"
    kind = type(cause).__name__ if cause is not None else "no answer"
    return f"the hub cannot be reached ({kind}), and {cache}: check the network, HF_ENDPOINT and the proxy, {fetch}"


BUILTIN = "builtin"
"""Name of the small trained checkpoint that is installed with the package."""

_BUILTIN_DIRECTORY = Path(__file__).parents[1] / "builtin"
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
CHECKPOINT_FILES = ("*.json", "*.safetensors", "vqvae/*.json", "vqvae/*.safetensors")
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
    directory = expanded_path(model)
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
    """A digest that distinguishes checkpoints: names, sizes and contents.

    Files beyond 64 MiB are read at 64 evenly spaced places of 1 MiB, so that 16 GB of weights take a second.
    """
    hasher = hashlib.blake2b(digest_size=16)
    paths = {path for pattern in CHECKPOINT_FILES for path in directory.glob(pattern) if not path.is_dir()}
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
