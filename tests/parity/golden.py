"""One recorded case, and the comparison of what was recorded with what is computed now."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

GOLDEN_DIRECTORY = "goldens"

LOGITS_ATOL = 1e-4
"""For plain logits, hidden states, latents and pixels in float32."""

GUIDED_ATOL = 3e-4
"""For guided logits: guidance amplifies rounding."""


class Mismatch(Exception):
    """Something differs from what was recorded, or the recording contradicts itself."""


class Unsupported(Exception):
    """The recorded case needs a feature that does not exist yet; the message names it."""


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """A description in JSON and the tensors beside it. Paths inside are relative to ``root``."""

    name: str
    root: Path
    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def kind(self) -> str:
        """Which check it needs."""
        return str(self.meta["kind"])

    @property
    def checkpoint(self) -> Path:
        """Directory of the weights and the tokenizer it was recorded with."""
        return self.root / str(self.meta["checkpoint"])

    @property
    def steps(self) -> list[dict[str, Any]]:
        """What was recorded step by step."""
        steps: list[dict[str, Any]] = self.meta["steps"]
        return steps

    def ids(self, name: str) -> Tensor:
        """A tensor of token ids with one row, as one dimension of int64."""
        ids = self.tensors[name].long()
        if ids.dim() == 2 and ids.shape[0] == 1:
            ids = ids[0]
        if ids.dim() != 1:
            raise Mismatch(f"{name}: expected one row of ids, got shape {tuple(ids.shape)}")
        return ids

    def image(self, name: str) -> Image.Image:
        """A tensor of bytes, (height, width, 3), as an image."""
        return Image.fromarray(self.tensors[name].contiguous().numpy())


def read_golden(path: Path) -> Golden:
    """Read ``NAME.json`` and, where it lists tensors, ``NAME.safetensors``.

    Raises:
        Mismatch: If a file is damaged, or a tensor is missing or not as described.
    """
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        tensors = load_file(path.with_suffix(".safetensors")) if meta.get("tensors") else {}
    except (OSError, ValueError, SafetensorError) as error:
        raise Mismatch(f"cannot read: {error}") from error
    for name, described in meta.get("tensors", {}).items():
        if name not in tensors:
            raise Mismatch(f"{name}: described, but not in the safetensors file")
        held = {"shape": list(tensors[name].shape), "dtype": str(tensors[name].dtype).removeprefix("torch.")}
        if held != described:
            raise Mismatch(f"{name}: described as {described}, but is {held}")
    return Golden(path.stem, path.parents[1], meta, tensors)


class Comparison:
    """Stops at the first difference, and counts what was compared, so that nothing passes unseen."""

    def __init__(self) -> None:
        self.num_values = 0
        self.not_checked: list[str] = []
        self.skipped: list[str] = []

    def equal(self, what: str, got: Any, expected: Any) -> None:
        """Compare exactly. Tensors, sequences of numbers, strings and numbers; shapes count."""
        if isinstance(got, Tensor) or isinstance(expected, Tensor):
            got, expected = _as_tensor(got), _as_tensor(expected)
            self._require_shape(what, got, expected)
            self._require_all(what, got, expected, got == expected.to(got.device))
            return
        if isinstance(got, Sequence) and isinstance(expected, Sequence) and not isinstance(expected, str):
            self._require_list(what, list(got), list(expected))
            return
        self.num_values += 1
        if got != expected:
            raise Mismatch(f"{what}: expected {_short(expected)}, got {_short(got)}")

    def close(self, what: str, got: Tensor, expected: Tensor, *, atol: float = LOGITS_ATOL, rtol: float = 0.0) -> None:
        """Compare within ``atol + rtol * |expected|``; infinities of the same sign are equal."""
        self._require_shape(what, got, expected)
        got_f64, expected_f64 = got.double(), expected.double()
        is_close = torch.isclose(got_f64, expected_f64, atol=atol, rtol=rtol)
        self._require_all(f"{what} (tolerance {atol or rtol:g})", got_f64, expected_f64, is_close)

    def true(self, what: str, is_true: bool) -> None:
        """State a fact that has no recorded value of its own."""
        self.num_values += 1
        if not is_true:
            raise Mismatch(what)

    def skip(self, why: str) -> None:
        """Leave out one case of several: there is no check of it here."""
        self.skipped.append(why)

    def _require_list(self, what: str, got: list[Any], expected: list[Any]) -> None:
        self.num_values += max(1, len(expected))
        for index, (mine, recorded) in enumerate(zip(got, expected, strict=False)):
            if mine != recorded:
                raise Mismatch(f"{what}[{index}]: expected {_short(recorded)}, got {_short(mine)}")
        if len(got) != len(expected):
            raise Mismatch(f"{what}: expected {len(expected)} entries, got {len(got)}")

    def _require_shape(self, what: str, got: Tensor, expected: Tensor) -> None:
        if got.shape != expected.shape:
            raise Mismatch(f"{what}: expected shape {tuple(expected.shape)}, got {tuple(got.shape)}")

    def _require_all(self, what: str, got: Tensor, expected: Tensor, is_right: Tensor) -> None:
        self.num_values += expected.numel()
        if wrong := (~is_right).nonzero().tolist():
            where = tuple(wrong[0])
            place = f"[{', '.join(map(str, where))}]" if where else ""
            more = f" ({len(wrong)} of {expected.numel()} differ)" if len(wrong) > 1 else ""
            raise Mismatch(f"{what}{place}: expected {expected[where].item()}, got {got[where].item()}{more}")


def _as_tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.tensor(values)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
