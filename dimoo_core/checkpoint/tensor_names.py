"""The names of a checkpoint's tensors against those that its files hold, and what a difference means, in words."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Set
from pathlib import Path

from dimoo_core.errors import WeightsError

PREFIX = "model.transformer."

_WRAPPER = re.compile(r"_\w+")  # a part of a name that torch's wrappers put in: _orig_mod, _fsdp_wrapped_module, …
_NAME = re.compile(r"(?P<prefix>(?:[^.]+\.)*?)(?P<own>(?:blocks\.\d+\.)?[^.]+\.weight)")
_ADAPTED = re.compile(r"\.(base_layer\.|lora_)")
_QUANTISED = re.compile(r"\.(qweight|qzeros|scales|g_idx|absmax|quant_map|weight_scale|weight\.quant_state\S*)$")


def check_names(held: Collection[str], expected: Set[str], where: Path) -> None:
    """Compare the names that files hold with those of the architecture.

    Args:
        held: By all files, repeated if two of them hold one.
        expected: Each once.
        where: The directory, for the message.

    Raises:
        WeightsError: Saying what is missing, too many or twice, and why that may be.
    """
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
