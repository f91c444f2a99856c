"""The checkpoints that goldens refer to, each loaded once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dimoo_core.checkpoint.load import Model, load_model
from dimoo_core.decoding.base import StepTrace
from dimoo_core.engine.engine import Engine
from dimoo_core.request.request import ImageResult, Request, RequestFailed, Result, TextResult
from dimoo_core.request.tokenizer import Tokenizer
from tests.parity.golden import Golden, Mismatch


class Checkpoints:
    """Models and tokenizers by directory."""

    def __init__(self) -> None:
        self._models: dict[tuple[Path, str], Model] = {}
        self._tokenizers: dict[Path, Tokenizer] = {}

    def model(self, golden: Golden) -> Model:
        """The model of a golden, in the type that it was recorded in."""
        key = (golden.checkpoint, golden.meta.get("dtype", "float32"))
        if key not in self._models:
            with torch.inference_mode(False):  # weights made in inference mode could not be overridden later
                self._models[key] = load_model(key[0], dtype=key[1])
        return self._models[key]

    def tokenizer(self, golden: Golden) -> Tokenizer:
        """The tokenizer of a golden."""
        if golden.checkpoint not in self._tokenizers:
            self._tokenizers[golden.checkpoint] = Tokenizer(golden.checkpoint)
        return self._tokenizers[golden.checkpoint]


def run_alone(model: Model, request: Request, on_step: Callable[[StepTrace], None]) -> ImageResult | TextResult:
    """Run one request on an engine of its own.

    Raises:
        Mismatch: If the engine returns anything but this request's result.
    """
    engine = Engine(model.transformer, model.tokens, observe=lambda _, trace: on_step(trace))
    engine.submit(request)
    results: list[Result] = []
    while engine.num_unfinished:
        results += engine.step()
    if len(results) != 1 or results[0].request_id != request.request_id:
        raise Mismatch(f"the engine returned {len(results)} results for one request")
    result = results[0]
    if isinstance(result, RequestFailed):
        raise Mismatch(f"the engine returned a failure: {result.error}")
    return result


@contextmanager
def overridden_head(model: Model, override: dict[str, Any] | None) -> Iterator[None]:
    """Within the block, one row of the head is a multiple of another: the way to make a certain id likely."""
    if override is None:
        yield
        return
    head = model.transformer.head.data
    saved = head[override["dst"]].clone()
    head[override["dst"]] = (override["scale"] * head[override["src"]].float()).to(head.dtype)
    try:
        yield
    finally:
        head[override["dst"]] = saved
