"""What the device benchmark measures: batches of like requests, with any number of steps."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest

import torch

from benchmarks.shape import Shape
from benchmarks.workload import caption_requests, image_requests
from dimoo_core.request import Request
from dimoo_core.settings import ImageSettings, StepCacheConfig, TextSettings

_CAPTION_TOKENS, _CAPTION_BLOCK = 128, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A batch of images or captions.

    ``build`` makes its requests for a number of steps, a multiple of ``step_multiple``, and a device for their noise;
    ``num_steps`` is the number of a whole generation.
    """

    name: str
    unit: str  # "image" or "caption"
    batch: int
    num_steps: int
    step_multiple: int
    settings: dict[str, object]
    build: Callable[[int, torch.device], list[Request]]

    def min_steps(self) -> int:
        """Fewest steps worth timing."""
        return min(self.num_steps, max(2, self.step_multiple))

    def steps_within(self, budget_s: float, seconds_per_step: float) -> int:
        """As many steps as the budget allows, within those of a whole generation."""
        affordable = int(budget_s / seconds_per_step) // self.step_multiple * self.step_multiple
        return max(self.min_steps(), min(self.num_steps, affordable))

    def num_tokens(self) -> int:
        """Tokens of all streams in all steps of a whole generation of the batch."""
        requests = self.build(self.num_steps, torch.device("cpu"))
        return self.num_steps * sum(request.num_tokens for request in requests)


def image_case(
    shape: Shape, size: tuple[int, int], num_steps: int, batch: int, step_cache: StepCacheConfig | None = None
) -> Case:
    """Images with the reference's guidance (4) and temperature (1)."""
    width_px, height_px = size

    def settings(steps: int) -> ImageSettings:
        return ImageSettings(width_px=width_px, height_px=height_px, num_steps=steps, step_cache=step_cache)

    return Case(
        name=f"image {width_px}x{height_px}, batch {batch}{', cached' if step_cache else ''}",
        unit="image",
        batch=batch,
        num_steps=num_steps,
        step_multiple=1,
        settings=asdict(settings(num_steps)),
        build=lambda steps, device: image_requests(shape, settings(steps), batch, device),
    )


def caption_case(shape: Shape, image_px: int, batch: int) -> Case:
    """Answers of 128 tokens in blocks of 32 about one image each, at the reference's step for each eight tokens."""

    def settings(steps: int | None) -> TextSettings:
        return TextSettings(max_tokens=_CAPTION_TOKENS, block_length=_CAPTION_BLOCK, num_steps=steps)

    whole = settings(None)
    num_steps = whole.steps_per_block * whole.num_blocks
    return Case(
        name=f"caption of a {image_px} px image, batch {batch}",
        unit="caption",
        batch=batch,
        num_steps=num_steps,
        step_multiple=whole.num_blocks,
        settings={"image_px": image_px, **asdict(settings(num_steps))},
        build=lambda steps, device: caption_requests(shape, settings(steps), batch, image_px=image_px, device=device),
    )


def cases_in_order(
    shape: Shape,
    *,
    sizes: Sequence[tuple[int, int]],
    num_steps: int,
    image_batches: Sequence[int],
    caption_batches: Sequence[int],
    caption_image_px: int,
    with_step_cache: bool,
) -> list[Case]:
    """The most telling cases first.

    All sizes and the caption at the first batch size, then single images with the step cache, then the other batch
    sizes, one after the other.
    """
    cases: list[Case] = []
    cached = [image_case(shape, size, num_steps, 1, StepCacheConfig()) for size in sizes] if with_step_cache else []
    for image_batch, caption_batch in zip_longest(image_batches, caption_batches):
        if image_batch is not None:
            cases += [image_case(shape, size, num_steps, image_batch) for size in sizes]
        if caption_batch is not None:
            cases.append(caption_case(shape, caption_image_px, caption_batch))
        cases += cached
        cached = []
    return cases
