"""Examples through the product: the requests, the engine and the codec that a run uses, without Ray and Parquet."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.engine.engine import Engine
from dimoo_core.request.builder import with_newlines
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import ImageResult, Request, Result, TextResult
from dimoo_core.settings import PIXELS_PER_TOKEN, EngineConfig, ImageSettings, TextSettings
from shapes.example import Example
from shapes.tile import Codes, render_codes

_REPORT_INTERVAL_S = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """What came of one example: an image with its codes, or a text."""

    codes: Codes | None = None
    image: Image.Image | None = None
    text: str | None = None
    num_tokens: int = 0  # that went through the transformer


class ExampleGenerator:
    """Runs examples on one model.

    Args:
        model: A loaded checkpoint.
        image: How images are made; the size is each example's own.
        text: How texts are made.
        max_running: Requests in the engine at a time; None leaves it to the engine's token budget.
    """

    def __init__(
        self, model: Model, *, image: ImageSettings, text: TextSettings, max_running: int | None = None
    ) -> None:
        self._model = model
        self._image = image
        self._text = text
        self._max_running = max_running
        self._engine = Engine(model.transformer, model.tokens, EngineConfig())

    def generate(self, examples: Sequence[Example], seeds: Sequence[int]) -> list[Output]:
        """One output for each example, in their order; an example's noise follows from its seed alone."""
        requests = [
            self._request(str(index), example, seed)
            for index, (example, seed) in enumerate(zip(examples, seeds, strict=True))
        ]
        results = {result.request_id: result for result in self._run(requests)}
        return [self._output(results[str(index)]) for index in range(len(examples))]

    def _run(self, requests: list[Request]) -> Iterator[Result]:
        waiting, num_done, next_report_s = requests[::-1], 0, time.monotonic() + _REPORT_INTERVAL_S
        while waiting or self._engine.num_unfinished:
            while waiting and self._has_room():
                self._engine.submit(waiting.pop())
            results = self._engine.step()
            num_done += len(results)
            yield from results
            if time.monotonic() > next_report_s:
                print(f"{num_done:,} of {len(requests):,} examples", file=sys.stderr, flush=True)
                next_report_s = time.monotonic() + _REPORT_INTERVAL_S

    def _has_room(self) -> bool:
        if self._max_running is not None:
            return self._engine.num_unfinished < self._max_running
        return self._engine.can_admit_more()

    def _request(self, request_id: str, example: Example, seed: int) -> Request:
        layout, noise = self._model.layout, SeededNoise(seed, self._model.device)
        images = self._model.codec.encode([Image.fromarray(render_codes(codes)) for codes in example.inputs])
        if example.answer is not None:
            return layout.understanding(request_id, example.prompt, images, self._text, noise)
        assert example.target_codes is not None
        rows, columns = example.target_codes.shape
        settings = replace(self._image, width_px=columns * PIXELS_PER_TOKEN, height_px=rows * PIXELS_PER_TOKEN)
        if images:
            return layout.image_to_image(request_id, example.system, example.prompt, images, settings, noise)
        request = layout.text_to_image(request_id, example.prompt, settings, noise)
        return request if example.mask is None else replace(request, target=self._partly_masked(example))

    def _partly_masked(self, example: Example) -> Tensor:
        """The target with the codes that are kept."""
        tokens = self._model.tokens
        codes_HW, is_masked_HW = torch.from_numpy(example.target_codes), torch.from_numpy(example.mask) == 1
        return with_newlines(torch.where(is_masked_HW, tokens.mask, codes_HW + tokens.image_offset), tokens)

    def _output(self, result: Result) -> Output:
        if isinstance(result, TextResult):
            text = self._model.layout.answer_text(result.token_ids)
            return Output(text=text, num_tokens=result.num_tokens)
        if not isinstance(result, ImageResult):
            raise result.error
        (image,) = self._model.codec.decode([result.vq_codes])
        return Output(codes=result.vq_codes.numpy(), image=image, num_tokens=result.num_tokens)
