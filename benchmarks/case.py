"""What the benchmarks of speed measure: batches of like requests under a preset, with any number of steps."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest

import torch

from benchmarks.shape import Shape
from benchmarks.workload import caption_requests, image_requests, without_parallel_commits
from dimoo_core.presets import DEFAULT_PRESET, PRESETS, Preset
from dimoo_core.request.request import Request
from dimoo_core.settings import ImageSettings, TextSettings

_CAPTION_TOKENS, _CAPTION_BLOCK = 128, 32
_EXACT = PRESETS[DEFAULT_PRESET]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A batch of images or captions.

    ``build`` makes its requests for a number of steps, a multiple of ``step_multiple``, and a device for their noise;
    ``build_plain`` the first of them without the preset's approximations. ``num_steps`` is the number of a whole
    generation.
    """

    name: str
    unit: str  # "image" or "caption"
    batch: int
    preset: str
    num_steps: int
    step_multiple: int
    settings: dict[str, object]
    build: Callable[[int, torch.device], list[Request]]
    build_plain: Callable[[int, torch.device], Request]

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


def image_case(shape: Shape, size: tuple[int, int], num_steps: int, batch: int, preset: Preset = _EXACT) -> Case:
    """Images with the reference's guidance (4) and temperature (1); no step decides more than the schedule says."""
    width_px, height_px = size

    def plain(steps: int) -> ImageSettings:
        return ImageSettings(width_px=width_px, height_px=height_px, num_steps=steps)

    def settings(steps: int) -> ImageSettings:
        return without_parallel_commits(preset.image(plain(steps)))

    return Case(
        name=f"image {width_px}x{height_px}, batch {batch}{_suffix(preset)}",
        unit="image",
        batch=batch,
        preset=preset.name,
        num_steps=num_steps,
        step_multiple=1,
        settings=asdict(settings(num_steps)),
        build=lambda steps, device: image_requests(shape, settings(steps), batch, device),
        build_plain=lambda steps, device: image_requests(shape, plain(steps), 1, device)[0],
    )


def caption_case(
    shape: Shape, image_px: int, batch: int, preset: Preset = _EXACT, num_steps: int | None = None
) -> Case:
    """Answers of 128 tokens in blocks of 32 about one image each; by default a step for each eight tokens.

    No step decides more than its share.
    """

    def plain(steps: int | None) -> TextSettings:
        return TextSettings(max_tokens=_CAPTION_TOKENS, block_length=_CAPTION_BLOCK, num_steps=steps)

    def settings(steps: int) -> TextSettings:
        return without_parallel_commits(preset.text(plain(steps)))

    def requests(text: TextSettings, count: int, device: torch.device) -> list[Request]:
        return caption_requests(shape, text, count, image_px=image_px, device=device)

    whole = plain(num_steps)
    total_steps = whole.steps_per_block * whole.num_blocks
    return Case(
        name=f"caption of a {image_px} px image, batch {batch}{_suffix(preset)}",
        unit="caption",
        batch=batch,
        preset=preset.name,
        num_steps=total_steps,
        step_multiple=whole.num_blocks,
        settings={"image_px": image_px, **asdict(settings(total_steps))},
        build=lambda steps, device: requests(settings(steps), batch, device),
        build_plain=lambda steps, device: requests(plain(steps), 1, device)[0],
    )


def cases_in_order(
    shape: Shape,
    *,
    sizes: Sequence[tuple[int, int]],
    num_steps: int,
    image_batches: Sequence[int],
    caption_batches: Sequence[int],
    caption_image_px: int,
    presets: Sequence[Preset],
    caption_steps: int | None = None,
) -> list[Case]:
    """The most telling cases first.

    All sizes and the caption at the first batch size, preset by preset, then the same at the next batch sizes. Presets
    that change nothing about captions have none.
    """
    captioning = [preset for preset in presets if preset is presets[0] or changes_captions(preset)]
    cases: list[Case] = []
    for image_batch, caption_batch in zip_longest(image_batches, caption_batches):
        for preset in presets:
            if image_batch is not None:
                cases += [image_case(shape, size, num_steps, image_batch, preset) for size in sizes]
            if caption_batch is not None and preset in captioning:
                cases.append(caption_case(shape, caption_image_px, caption_batch, preset, caption_steps))
    return cases


def changes_captions(preset: Preset) -> bool:
    """Whether captions under a preset are computed in another way than exactly."""
    return preset.cache is not None or preset.commit is not None


def _suffix(preset: Preset) -> str:
    return "" if preset is _EXACT else f", {preset.name}"
