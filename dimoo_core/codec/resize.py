"""Cropping and resizing photographs to the sizes that the model was trained with.

Source: ``generate_crop_size_list``, ``var_center_crop`` and ``center_crop`` of the reference's ``image_utils.py``, and
the size rule of its benchmark wrapper. Despite its name the reference crops at a random offset; here the crop is
centred unless ``random_offset`` is asked for. What comes here is upright and RGB already; the reference resizes images
as they are.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from dimoo_core.errors import ConfigError
from dimoo_core.settings import PIXELS_PER_TOKEN, Resolution

Size = tuple[int, int]
"""Width and height in pixels."""

Offset = Callable[[int, int], tuple[int, int]]
"""From the largest left and upper offset to the ones to crop at."""

_PATCH_PX = 32
_MOST_COVER = 8  # times the size of a crop that an image is scaled to before it is cut; sides are at most 1 to 4


def crop_sizes(num_patches: int, patch_px: int = _PATCH_PX, max_ratio: float = 4.0) -> list[Size]:
    """Sizes of at most ``num_patches`` square patches and at most ``max_ratio`` between the sides, widest first."""
    sizes: list[Size] = []
    columns, rows = num_patches, 1
    while columns > 0:
        if max(columns, rows) / min(columns, rows) <= max_ratio:
            sizes.append((columns * patch_px, rows * patch_px))
        if (rows + 1) * columns <= num_patches:
            rows += 1
        else:
            columns -= 1
    return sizes


def crop_sizes_for(size: Size, resolution: Resolution) -> list[Size]:
    """Crop sizes to choose from for an image of this size.

    Raises:
        ConfigError: If the resolution is not a multiple of 32.
    """
    if isinstance(resolution, str):
        area = size[0] * size[1]
        if area <= 1024 * 1024 and (resolution == "native" or area >= 512 * 512):
            return [_whole_tokens(size)]
        resolution = 512 if area < 512 * 512 else 1024
    if resolution < _PATCH_PX or resolution % _PATCH_PX:
        allowed = f"'adaptive', 'native' or a positive multiple of {_PATCH_PX}"
        raise ConfigError(f"resolution must be {allowed}, got {resolution}")
    return crop_sizes((resolution // _PATCH_PX) ** 2)


def resolution_beside(resolution: Resolution, num_images: int) -> Resolution:
    """The resolution of each of several images that are read together.

    Source: the reference's benchmark wrapper takes 512 for each of several, whatever their sizes; ``adaptive`` is its
    rule, so it does too.
    """
    return 512 if resolution == "adaptive" and num_images > 1 else resolution


def _whole_tokens(size: Size) -> Size:
    """The largest size of whole tokens within this one, at least one token."""
    width, height = (max(1, side // PIXELS_PER_TOKEN) * PIXELS_PER_TOKEN for side in size)
    return width, height


def best_crop_size(size: Size, sizes: Sequence[Size]) -> Size:
    """The size whose shape is nearest to the image's; of equals the larger tuple."""
    width, height = size

    def kept_share(crop: Size) -> float:
        ratios = (crop[0] / width, crop[1] / height)
        return min(ratios) / max(ratios)

    return max(sizes, key=lambda crop: (kept_share(crop), crop))


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How an image gets to its crop size: halved by box filter, then scaled bicubically to cover it, then cut."""

    crop: Size
    num_halvings: int
    scaled: Size

    @property
    def max_offset(self) -> tuple[int, int]:
        """Largest left and upper offset at which the crop can be cut."""
        return self.scaled[0] - self.crop[0], self.scaled[1] - self.crop[1]


def plan_fit(size: Size, sizes: Sequence[Size]) -> FitPlan:
    """The plan for an image of ``size`` that is to get the best of ``sizes``."""
    crop = best_crop_size(size, sizes)
    width, height = size
    num_halvings = 0
    while width >= 2 * crop[0] and height >= 2 * crop[1]:
        width, height = width // 2, height // 2
        num_halvings += 1
    scale = max(crop[0] / width, crop[1] / height)
    return FitPlan(crop, num_halvings, (round(width * scale), round(height * scale)))


def unscaled_plan(size: Size) -> FitPlan:
    """A plan that scales nothing if it can: up to 1024x1024 pixels, all are kept but a rest beyond whole tokens."""
    sizes = crop_sizes_for(size, "native")
    crop = sizes[0]
    is_inside = len(sizes) == 1 and crop[0] <= size[0] and crop[1] <= size[1]
    return FitPlan(crop, 0, size) if is_inside else plan_fit(size, sizes)


def fit(image: Image.Image, sizes: Sequence[Size], offset: Offset) -> Image.Image:
    """Scale to cover the best of ``sizes``, then cut it out at ``offset``."""
    return fit_as_planned(image, plan_fit(image.size, sizes), offset)


def fit_as_planned(image: Image.Image, plan: FitPlan, offset: Offset) -> Image.Image:
    """Scale and cut an image of the size that the plan was made for; of any mode that can be scaled.

    An image so long that little of it is left is cut first: scaled whole, a file of a few bytes would fill the memory.
    Pixels may then differ in their last bit from those of an image that was scaled whole.
    """
    for _ in range(plan.num_halvings):
        image = image.resize((image.width // 2, image.height // 2), resample=Image.Resampling.BOX)
    (left, upper), (width, height) = offset(*plan.max_offset), plan.crop
    if plan.scaled[0] * plan.scaled[1] > _MOST_COVER * width * height:
        columns, rows = image.width / plan.scaled[0], image.height / plan.scaled[1]
        box = (
            left * columns,
            upper * rows,
            min((left + width) * columns, image.width),
            min((upper + height) * rows, image.height),
        )
        return image.resize(plan.crop, resample=Image.Resampling.BICUBIC, box=box)
    image = image.resize(plan.scaled, resample=Image.Resampling.BICUBIC)
    return image.crop((left, upper, left + width, upper + height))


def centered(max_left: int, max_upper: int) -> tuple[int, int]:
    """The offset that cuts as much on either side."""
    return max_left // 2, max_upper // 2


def random_offset(seed: int) -> Offset:
    """The reference's offset: uniform, from Python's generator, drawn as its scripts draw after ``random.seed``."""

    def draw(max_left: int, max_upper: int) -> tuple[int, int]:
        generator = random.Random(seed)
        generator.choice(range(1))  # the reference chooses among its one best size first
        return generator.randint(0, max_left), generator.randint(0, max_upper)

    return draw
