"""Tensors of safetensors files by name: headers, read without torch, and the names that a model needs."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from dimoo_core.errors import WeightsError
from dimoo_core.files import check_file

PREFIX = "model.transformer."

_WRAPPER = re.compile(r"_\w+")  # a part of a name that torch's wrappers put in: _orig_mod, _fsdp_wrapped_module, …
_NAME = re.compile(r"(?P<prefix>(?:[^.]+\.)*?)(?P<own>(?:blocks\.\d+\.)?[^.]+\.weight)")
_ADAPTED = re.compile(r"\.(base_layer\.|lora_)")
_QUANTISED = re.compile(r"\.(qweight|qzeros|scales|g_idx|absmax|quant_map|weight_scale|weight\.quant_state\S*)$")


def check_names(held: Collection[str], expected: Set[str], where: Path) -> None:
    """Compare the names that files hold with those of the architecture."""
    if repeated := sorted(name for name, count in Counter(held).items() if count > 1):
        raise WeightsError(
            f"{where} holds a tensor twice: {some(repeated)}; remove the weight files that are left of another save"
        )
    missing, extra = sorted(expected - set(held)), sorted(set(held) - set(expected))
    if missing:
        raise WeightsError(_lacking(missing, extra, set(expected), where))
    if extra:
        raise WeightsError(f"{where} holds {len(extra)} tensors that its config does not explain: {some(extra)}")


def some(names: list[str], limit: int = 5) -> str:
    """The first few of the names, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, … ({len(names) - limit} more)"


def _lacking(missing: list[str], extra: list[str], expected: set[str], where: Path) -> str:
    if adapted := [name for name in extra if _ADAPTED.search(name)]:
        return (
            f"{where} holds an adapter beside its base weights, not merged into them: {some(adapted, 2)}; save what "
            f"PEFT's merge_and_unload gives, or the adapter alone and set adapter"
        )
    if quantised := [name for name in extra if _QUANTISED.search(name)]:
        return (
            f"{where} holds quantised weights: {some(quantised, 2)}; give the weights that they were made from "
            f"(dtype=float8 makes these smaller while they are read)"
        )
    named = _otherwise_named(extra, expected)
    if len(named) * 2 > len(missing):
        held, own = next(iter(named.items()))
        return (
            f"{where} holds {len(named)} of {len(expected)} tensors by other names: {held} where {own} is expected; "
            f"{_fix(named)}, or rename them with load_file and save_file of safetensors.torch"
        )
    lacks = f"{where} lacks {len(missing)} tensors: {some(missing)}"
    return f"{lacks}; it holds {len(extra)} others: {some(extra, 3)}" if extra else lacks


def _otherwise_named(extra: Iterable[str], expected: set[str]) -> dict[str, str]:
    """The expected name of each tensor that has it but for its prefix and for parts that wrappers put in."""
    named: dict[str, str] = {}
    for name in extra:
        plain = ".".join(part for part in name.split(".") if not _WRAPPER.fullmatch(part))
        match = _NAME.fullmatch(plain)
        if match is not None and (own := PREFIX + match["own"]) in expected:
            named[name] = own
    return named


def _fix(named: dict[str, str]) -> str:
    """How to save the weights under their own names."""
    parts = {part for name in named for part in name.split(".")}
    if "base_model" in parts:
        return "save what PEFT's merge_and_unload gives"
    wrappers = sorted(part for part in parts if _WRAPPER.fullmatch(part) or part == "module")
    return f"save the model inside of its wrapper ({', '.join(wrappers)})" if wrappers else "save the whole model"


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
    """The header's entry for a tensor."""

    shape: tuple[int, ...]
    dtype: str  # as safetensors names it: BF16, F32, …


def read_header(path: Path, *, if_missing: str) -> dict[str, StoredTensor]:
    """Shape and type of each tensor by name; no tensor is read."""
    check_file(path, if_missing=if_missing)
    with opened(path, "np") as file:
        views = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: StoredTensor(tuple(view.get_shape()), view.get_dtype()) for name, view in views.items()}


@contextmanager
def opened(path: Path, framework: Literal["np", "pt"]) -> Iterator[Any]:
    """The library's own view of a file, of arrays or of tensors."""
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    """The damage of the file, and what to do about it."""
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
