"""Requests for small models, and engines run until nothing is left."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.decoding.base import StepTrace
from dimoo_core.engine.engine import Engine
from dimoo_core.model.packed_batch import PackedBatch
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import ImageResult, Request, RequestFailed, Result, TextResult
from dimoo_core.settings import ImageSettings, TextSettings

CPU = torch.device("cpu")

SMALL_IMAGE = ImageSettings(width_px=48, height_px=32, num_steps=4)
SHORT_TEXT = TextSettings(max_tokens=12, block_length=6, num_steps=6)


def image_of(
    model: Model, request_id: str, *, prompt: str = "a red boat", settings: ImageSettings | None = None
) -> Request:
    """A text-to-image request whose noise follows from its id."""
    return model.layout.text_to_image(request_id, prompt, settings or SMALL_IMAGE, noise_of(request_id))


def answer_of(
    model: Model, request_id: str, *, prompt: str = "What is it?", settings: TextSettings | None = None
) -> Request:
    """A request about a random image; image and noise follow from its id."""
    codes_HW = torch.randint(8192, (2, 3), generator=torch.Generator().manual_seed(len(request_id)))
    return model.layout.understanding(request_id, prompt, [codes_HW], settings or SHORT_TEXT, noise_of(request_id))


def noise_of(request_id: str) -> SeededNoise:
    """Noise that belongs to the request, wherever it runs."""
    return SeededNoise(int.from_bytes(request_id.encode(), "big"), CPU)


def run_all(engine: Engine, requests: Iterable[Request] = ()) -> dict[str, Result]:
    """Submit requests and step until every one has come back."""
    for request in requests:
        engine.submit(request)
    results: list[Result] = []
    while engine.num_unfinished:
        results += engine.step()
    by_id = {result.request_id: result for result in results}
    assert len(by_id) == len(results), "a request came back twice"
    return by_id


def ids_of(result: Result) -> list[int]:
    """The decided ids, whatever the task."""
    assert not isinstance(result, RequestFailed), f"{result.request_id} failed: {result.error}"
    return result.vq_codes.flatten().tolist() if isinstance(result, ImageResult) else list(result.token_ids)


def text_result(result: Result) -> TextResult:
    """The result as the answer that it must be."""
    assert isinstance(result, TextResult)
    return result


def image_codes(result: Result) -> Tensor:
    """Codes of the image that the result must be."""
    assert isinstance(result, ImageResult)
    return result.vq_codes


@contextmanager
def memory_for(model: Model, num_tokens: int) -> Iterator[list[int]]:
    """A transformer that runs out of memory above some number of tokens; yields the sizes it was asked for."""
    forward, asked = model.transformer.forward, []

    def limited(batch: PackedBatch) -> Tensor:
        asked.append(len(batch.ids_T))
        if len(batch.ids_T) > num_tokens:
            raise torch.OutOfMemoryError("no memory left")
        return forward(batch)

    model.transformer.forward = limited  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        del model.transformer.forward


def traces_of(model: Model, request: Request) -> list[StepTrace]:
    """The steps of a request alone."""
    traces: list[StepTrace] = []
    engine = Engine(model.transformer, model.tokens, observe=lambda _, trace: traces.append(trace))
    run_all(engine, [request])
    return traces
