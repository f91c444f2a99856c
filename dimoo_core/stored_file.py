"""One file of a checkpoint or an adapter: whether it can be read, and JSON from it; why not, in words.

What the files of a checkpoint are is in ``checkpoint_files``, tensors are in ``safetensors_file``.
"""

import json
import stat
from pathlib import Path
from typing import Any

from dimoo_core.errors import WeightsError

_POINTER = b"version https://git-lfs.github.com/spec/"


def check_file(path: Path, *, if_missing: str) -> None:
    """Look at a file and its first bytes.

    Args:
        path: Of the file.
        if_missing: What to say after "is missing: ".

    Raises:
        WeightsError: If it is not there, not a file, empty, a pointer of git-lfs, or may not be read.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise WeightsError(f"{path} is a directory where a file must be: remove it and copy the file there")
        if not stat.S_ISREG(kind):
            raise WeightsError(f"{path} is not a regular file: copy the file there")
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except FileNotFoundError as error:
        if path.is_symlink():
            raise WeightsError(
                f"{path} is a link to {path.readlink()}, which does not exist: download or copy the file again"
            ) from error
        raise WeightsError(f"{path} is missing: {if_missing}") from error
    except OSError as error:
        fix = (
            "give this user the right to read it" if isinstance(error, PermissionError) else "download or copy it again"
        )
        raise WeightsError(f"{path} cannot be read ({error.strerror}): {fix}") from error
    if not start:
        raise WeightsError(f"{path} is empty: download or copy it again")
    if start == _POINTER:
        raise WeightsError(
            f"{path} is a git-lfs pointer, not the file itself: run 'git lfs pull' in the cloned repository, or "
            f"download it with 'hf download'"
        )


def read_json_object(path: Path, *, if_missing: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        WeightsError: As ``check_file``, or it holds something else.
    """
    check_file(path, if_missing=if_missing)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value
