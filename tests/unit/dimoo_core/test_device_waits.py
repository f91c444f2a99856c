"""How often a step waits for its device to say something: each time a GPU would run dry."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dimoo_core.engine import Engine
from dimoo_core.model import Model
from dimoo_core.sampling import parted
from tests.support.engine_run import answer_of, image_of

_WAITS = ("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal")
_CASTS = ("__int__", "__bool__", "__float__", "__index__", "item", "tolist")


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


def test_a_step_of_an_answer_waits_once_to_pack_and_once_for_what_is_left(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_model.transformer, tiny_model.tokens)
    engine.submit(answer_of(tiny_model, "answer"))
    engine.step()
    assert waits_of_a_step(engine, monkeypatch) == {"_unique2": 1, "nonzero": 1}


def test_positions_are_parted_in_their_order() -> None:
    positions_M = torch.tensor([2, 3, 5, 7, 11, 13])
    for stays in ([0, 1, 0, 0, 1, 1], [0] * 6, [1] * 6):
        stays_M = torch.tensor(stays, dtype=torch.bool)
        leaving, staying = parted(positions_M, stays_M)
        assert leaving.tolist() == positions_M[~stays_M].tolist()
        assert staying.tolist() == positions_M[stays_M].tolist()
