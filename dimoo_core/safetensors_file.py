"""A safetensors file: names, shapes and types from its header, its tensors one by one, or why neither can be had.

No tensor that holds a value which is not finite, or not in the type that it is loaded as, gets past here: its largest
and smallest value are looked at, which is one pass over it, on a thread that reads ahead of what is done with it.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dimoo_core.errors import WeightsError
from dimoo_core.stored_file import check_file

_AGAIN = "download or copy it again"
_STARTS = {
    b"PK\x03\x04": "it is a pickle file of torch under another name: save the weights as safetensors",
    b"\x80": "it is a pickle file under another name: save the weights as safetensors",
    b"GGUF": "it is a GGUF file: the original weights are needed",
    b"<": f"it is a web page: {_AGAIN}",
}
_LONGEST_HEADER = 100_000_000  # that the library reads

T = TypeVar("T")


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
    with _opened(path) as file:
        views = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: StoredTensor(tuple(view.get_shape()), view.get_dtype()) for name, view in views.items()}


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Each tensor with its name, in the order of the file's header; memory is taken as its values are looked at.

    Raises:
        WeightsError: If the file is damaged.
    """
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118
            yield name, file.get_tensor(name)


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made while the one before is used.

    Two exist at a time. One thread makes them all, and has ended when this is exhausted or closed.
    """
    with ThreadPoolExecutor(1, "read-ahead") as executor:
        following = executor.submit(next, items, None)
        while (item := following.result()) is not None:
            following = executor.submit(next, items, None)
            yield item


def check_finite(tensor: Tensor, where: str, dtype: torch.dtype | None = None) -> None:
    """Refuse a tensor that is not finite, or would not be in another type.

    ``aminmax`` gives a NaN back if there is one, and rounding keeps order, so the two extremes say all.

    Args:
        tensor: Floating point, of any shape.
        where: What to call it.
        dtype: That it becomes; None if it stays as it is or is scaled to fit.

    Raises:
        WeightsError: Naming it, and what to do.
    """
    if not tensor.numel():
        return
    extremes = torch.stack(torch.aminmax(tensor))
    if not extremes.isfinite().all():
        raise WeightsError(
            f"{where} holds values that are not finite (NaN or infinity): {_AGAIN}, or use a state of the training "
            f"before it diverged"
        )
    if dtype is not None and not extremes.to(dtype).isfinite().all():
        name, largest = str(dtype).removeprefix("torch."), max(map(abs, extremes.tolist()))
        wider = "bfloat16" if dtype == torch.float16 and largest < torch.finfo(torch.bfloat16).max else "float32"
        raise WeightsError(f"{where} holds values up to {largest:.4g}, too large for {name}: set dtype={wider}")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
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
                return f"it is cut off within its header: {_AGAIN}"
            known = [reason for magic, reason in _STARTS.items() if start.startswith(magic)]
            return known[0] if known else f"it has no header of one ({error}): {_AGAIN}"
        expected = _size_by_header(file.read(header_size), 8 + header_size)
    if expected is not None and size < expected:
        return f"it is cut off, {size:,} of its {expected:,} bytes are there: {_AGAIN}"
    return f"{' '.join(str(error).split())}: {_AGAIN}"


def _size_by_header(header: bytes, data_start: int) -> int | None:
    """How large a file of this header is; None if the header is none."""
    try:
        entries = json.loads(header).items()
        return data_start + max(
            (entry["data_offsets"][1] for name, entry in entries if name != "__metadata__"), default=0
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
