"""Requests as users send them, with prompts of a usual length; laid out by the product's own code."""

from dataclasses import replace
from typing import TypeVar

import torch

from benchmarks.shape import Shape
from dimoo_core.request.builder import RequestLayout
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import Request
from dimoo_core.request.templates import TEXT_TO_IMAGE_SYSTEM
from dimoo_core.settings import PIXELS_PER_TOKEN, ChoiceSettings, ImageSettings, TextSettings

_Settings = TypeVar("_Settings", ImageSettings, TextSettings, ChoiceSettings)

_SCENE = (
    "A weathered red fishing boat rests on a pebble beach at low tide, its paint peeling in curls; behind it a "
    "row of white cottages with slate roofs climbs a green hill under a pale morning sky, soft light, wide angle."
)
_EDIT = "Turn the day into night and light the windows of the cottages."
_QUESTION = "Describe this image in detail, from the foreground to the background."


def image_requests(
    shape: Shape, settings: ImageSettings, count: int, device: torch.device | str = "cpu"
) -> list[Request]:
    """Text-to-image requests with different prompts of one length, 60 tokens in all; noise is drawn on ``device``."""
    layout = RequestLayout(shape.tokenizer(), shape.tokens)
    name = f"image-{settings.width_px}x{settings.height_px}"
    return [
        layout.text_to_image(f"{name}-{index}", f"{_SCENE} {index}", settings, SeededNoise(index, torch.device(device)))
        for index in range(count)
    ]


def caption_requests(
    shape: Shape, settings: TextSettings, count: int, *, image_px: int, device: torch.device | str = "cpu"
) -> list[Request]:
    """The same question about different square images of ``image_px`` pixels a side."""
    layout = RequestLayout(shape.tokenizer(), shape.tokens)
    side = image_px // PIXELS_PER_TOKEN
    requests = []
    for index in range(count):
        generator = torch.Generator().manual_seed(index)
        codes_HW = torch.randint(shape.tokens.num_codes, (side, side), generator=generator)
        noise = SeededNoise(index, torch.device(device))
        requests.append(layout.understanding(f"caption-{index}", _QUESTION, [codes_HW], settings, noise))
    return requests


def mixed_requests(shape: Shape, *, num_steps: int) -> list[Request]:
    """Twelve small requests of all tasks: images of two sizes, edits of an image, and captions."""
    layout = RequestLayout(shape.tokenizer(), shape.tokens)
    square = ImageSettings(width_px=128, height_px=128, num_steps=num_steps)
    wide = ImageSettings(width_px=160, height_px=96, num_steps=num_steps + 2)
    edit = ImageSettings(width_px=128, height_px=128, num_steps=num_steps, cfg_image_scale=1.5)
    edits = []
    for index in range(2):
        codes_HW = torch.randint(shape.tokens.num_codes, (8, 8), generator=torch.Generator().manual_seed(index))
        noise = SeededNoise(index, torch.device("cpu"))
        name = f"edit-{index}"
        edits.append(layout.image_to_image(name, TEXT_TO_IMAGE_SYSTEM, _EDIT, [codes_HW], edit, noise))
    captions = caption_requests(shape, TextSettings(max_tokens=64, block_length=32), 4, image_px=128)
    return [*image_requests(shape, square, 3), *edits, *captions, *image_requests(shape, wide, 3)]


def without_parallel_commits(settings: _Settings) -> _Settings:
    """The settings with each step deciding what the schedule says: how sure random weights are means nothing."""
    return settings if isinstance(settings, ChoiceSettings) else replace(settings, commit=None)


def sequence_lengths(request: Request) -> list[int]:
    """Tokens of each of the request's streams."""
    return [len(sequence.around(request.target)) for sequence in request.sequences]


def parse_size(text: str) -> tuple[int, int]:
    """Width and height from ``1024x1024``.

    Raises:
        ValueError: If the text is not two integers around an x.
    """
    width, _, height = text.partition("x")
    return int(width), int(height)
