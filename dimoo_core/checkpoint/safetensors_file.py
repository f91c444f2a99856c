"""A safetensors file: names, shapes and types from its header, or why they cannot be had. Importable without torch."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from dimoo_core.errors import WeightsError
from dimoo_core.stored_file import check_file

DOWNLOAD_AGAIN = "download or copy it again"
_STARTS = {
    b"PK\x03\x04": "it is a pickle file of torch under another name: save the weights as safetensors",
    b"\x80": "it is a pickle file under another name: save the weights as safetensors",
    b"GGUF": "it is a GGUF file: the original weights are needed",
    b"<": f"it is a web page: {DOWNLOAD_AGAIN}",
}
_LONGEST_HEADER = 100_000_000  # that the library reads


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """What a header says of a tensor."""

    shape: tuple[int, ...]
    dtype: str  # as safetensors names it: BF16, F32, …


def read_header(path: Path, *, if_missing: str) -> dict[str, StoredTensor]:
    """Shape and type of each tensor by name; no tensor is read.

    Raises:
        WeightsError: If the file is missing or damaged.
    """
    check_file(path, if_missing=if_missing)
    with opened(path, "np") as file:
        views = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: StoredTensor(tuple(view.get_shape()), view.get_dtype()) for name, view in views.items()}


@contextmanager
def opened(path: Path, framework: Literal["np", "pt"]) -> Iterator[Any]:
    """The library's own view of a file, of arrays or of tensors.

    Raises:
        WeightsError: If the file is damaged.
    """
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    """What is wrong with the file, and what to do."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if not header_size < min(size, _LONGEST_HEADER):
            file.seek(0)
            start = file.read(9)
            if start[8:] == b"{" and header_size < _LONGEST_HEADER:
                return f"it is cut off within its header: {DOWNLOAD_AGAIN}"
            known = [reason for magic, reason in _STARTS.items() if start.startswith(magic)]
            return known[0] if known else f"it has no header of one ({error}): {DOWNLOAD_AGAIN}"
        expected = _size_by_header(file.read(header_size), 8 + header_size)
    if expected is not None and size < expected:
        return f"it is cut off, {size:,} of its {expected:,} bytes are there: {DOWNLOAD_AGAIN}"
    return f"{' '.join(str(error).split())}: {DOWNLOAD_AGAIN}"


def _size_by_header(header: bytes, data_start: int) -> int | None:
    """How large a file of this header is; None if the header is none."""
    try:
        entries = json.loads(header).items()
        return data_start + max(
            (entry["data_offsets"][1] for name, entry in entries if name != "__metadata__"), default=0
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
