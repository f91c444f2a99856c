"""How often a step waits for its device to say something: each time a GPU would run dry."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dimoo_core.checkpoint.load import Model
from dimoo_core.decoding.sampling import parted
from dimoo_core.engine.engine import Engine
from dimoo_core.presets import PRESETS
from dimoo_core.settings import (
    ChoiceSettings,
    ImageSettings,
    ParallelCommit,
    TargetCacheConfig,
    TextCacheConfig,
    TextSettings,
)
from tests.support.engine_run import image_of
from tests.unit.dimoo_core.engine.test_not_finite import request_of

_WAITS = ("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal")
_CASTS = ("__int__", "__bool__", "__float__", "__index__", "item", "tolist", "cpu")


class WaitCount(TorchDispatchMode):
    """Counts operations whose size or value the host has to know, within ``with``."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        name = function.overloadpacket.__name__
        indices = arguments[1] if name in ("index", "index_put", "index_put_") else ()
        if name in _WAITS or any(index is not None and index.dtype == torch.bool for index in indices):
            self.counts[name] += 1
        return function(*arguments, **(options or {}))


def waits_of_a_step(engine: Engine, patch: pytest.MonkeyPatch) -> dict[str, int]:
    with WaitCount() as waits, patch.context() as casts:
        for name in _CASTS:
            casts.setattr(torch.Tensor, name, counted(waits.counts, getattr(torch.Tensor, name)))
        engine.step()
    return dict(waits.counts)


def counted(counts: Counter[str], cast: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    def count_and_cast(tensor: Tensor) -> Any:
        counts["cast"] += 1
        return cast(tensor)

    return count_and_cast


def test_a_step_of_images_waits_once_to_pack_and_once_for_each_image(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_model.transformer, tiny_model.tokens)
    for name in ("first", "second", "third"):
        engine.submit(image_of(tiny_model, name))
    engine.step()
    assert waits_of_a_step(engine, monkeypatch) == {"_unique2": 1, "cast": 3}


IMAGE = ImageSettings(width_px=96, height_px=96, num_steps=8)
TEXT = TextSettings(max_tokens=12, block_length=6, num_steps=6)

WAITS: dict[str, tuple[ImageSettings | TextSettings | ChoiceSettings, list[int]]] = {
    # One to pack, one for how many leave the mask. The first step looks for streams that are equal, two for each; the
    # last one brings the image, which three operations on the host take apart.
    "image": (IMAGE, [6, 2, 2, 2, 2, 2, 2, 5]),
    "image without guidance": (replace(IMAGE, cfg_scale=0.0, temperature=0.0), [4, 2, 2, 2, 2, 2, 2, 5]),
    "image, the reference's cache": (PRESETS["reference-cache"].image(IMAGE), [6, 2, 8, 8, 8, 8, 8, 5]),
    "image, target cache": (replace(IMAGE, step_cache=TargetCacheConfig()), [2, 1, 2, 2, 2, 2, 2, 5]),
    "image, balanced": (PRESETS["balanced"].image(IMAGE), [2, 2, 2, 2, 2, 2, 2, 5]),
    "image, fast": (PRESETS["fast"].image(IMAGE), [2, 2, 2, 2, 2, 2, 2, 5]),
    "image, entropy": (replace(IMAGE, commit=ParallelCommit(rule="entropy", bound=1.0)), [7, 3, 3, 3, 3, 3, 3, 6]),
    # One to pack, one for what is left; two at the first step for its stream, and two at the end of a block.
    "answer": (TEXT, [4, 2, 4, 2, 2, 4]),
    "answer at temperature 1": (replace(TEXT, temperature=1.0), [4, 2, 4, 2, 2, 4]),
    "answer, random order": (replace(TEXT, remasking="random"), [4, 2, 4, 2, 2, 4]),
    "answer, cached": (replace(TEXT, cache=TextCacheConfig()), [2, 2, 4, 2, 2, 4]),
    "answer, balanced": (PRESETS["balanced"].text(TEXT), [3, 3, 5, 3, 3, 5]),
    "answer of one token": (TextSettings(max_tokens=1, block_length=1, num_steps=1), [6]),
    "choices": (ChoiceSettings(), [4]),
}
"""How often each step waited before it was told whether its numbers are finite."""


@pytest.mark.parametrize("kind", WAITS)
def test_no_step_waits_for_whether_its_numbers_are_finite(
    kind: str, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, expected = WAITS[kind]
    engine = Engine(tiny_model.transformer, tiny_model.tokens)
    engine.submit(request_of(tiny_model, "row", settings))
    counts = []
    while engine.num_unfinished:
        counts.append(sum(waits_of_a_step(engine, monkeypatch).values()))
    assert counts == expected


def test_positions_are_parted_in_their_order() -> None:
    positions_M = torch.tensor([2, 3, 5, 7, 11, 13])
    for stays in ([0, 1, 0, 0, 1, 1], [0] * 6, [1] * 6):
        stays_M = torch.tensor(stays, dtype=torch.bool)
        leaving, staying = parted(positions_M, stays_M)
        assert leaving.tolist() == positions_M[~stays_M].tolist()
        assert staying.tolist() == positions_M[stays_M].tolist()
