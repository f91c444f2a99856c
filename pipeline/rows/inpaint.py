"""What a row's mask means for its input image: the tokens to paint, and the pixels that stay as they were."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image, ImageChops
from torch import Tensor

from dimoo_core.errors import DimooError
from dimoo_core.request.inpainting import centered_box, dilated, token_mask
from dimoo_core.settings import MAX_SIDE_PX, PIXELS_PER_TOKEN
from manifests.row.mask import Mask, Padding

MASK_MODES = ("1", "L")
"""Pillow's names for black and white, and for shades of gray."""


class MaskUnusable(DimooError):
    """A mask that does not go with its image, or covers nothing of it."""


@dataclass(frozen=True, slots=True)
class KeptPixels:
    """The input image as it was encoded, and where it stays (255) in the result; both of the result's size."""

    image: Image.Image
    where: Image.Image

    def pasted_on(self, painted: Image.Image) -> Image.Image:
        """The result: every kept pixel is that of the input image."""
        return Image.composite(self.image, painted, self.where)


def painted_pixels(
    mask: Mask, size: tuple[int, int], mask_image: Image.Image | None, *, keeps_box: bool
) -> Image.Image:
    """Where a row wants its image painted, an image of mode L of the same size: 255 there, 0 where it is kept.

    Args:
        keeps_box: Whether a box is what is kept, and not what is painted. A mask image is always what is painted.

    Raises:
        MaskUnusable: The mask image is of another size or of a mode with colours, or the box is not within.
    """
    if mask_image is not None:
        return _from_image(mask_image, mask, size)
    if mask.ratio is not None:
        centre = centered_box(size, *mask.ratio)
        box = (centre.left, centre.top, centre.right, centre.bottom)
    else:
        assert mask.box is not None  # a mask has one of the three
        box = mask.box
    if box[2] > size[0] or box[3] > size[1]:
        raise MaskUnusable(
            f"mask_box must lie within the image of {_by(size)} pixels, got {list(box)}: make it smaller"
        )
    pixels = Image.new("L", size, 0)
    pixels.paste(255, box)
    return ImageChops.invert(pixels) if keeps_box else pixels


def grown_image(mask: Mask, padding: Padding, image: Image.Image) -> tuple[Image.Image, Tensor]:
    """A larger image with this one in its place, and the tokens to paint: those around it, (H, W) bool.

    Args:
        mask: The row's; its dilation regenerates so many tokens of the image's rim.
        image: The input image, of whole tokens.

    Raises:
        MaskUnusable: The larger image has a side that is too long.
    """
    left, top, right, bottom = padding.tokens(image.size)
    columns, rows = (side // PIXELS_PER_TOKEN for side in image.size)
    mask_HW = torch.ones(top + rows + bottom, left + columns + right, dtype=torch.bool)
    height, width = (side * PIXELS_PER_TOKEN for side in mask_HW.shape)
    if max(width, height) > MAX_SIDE_PX:
        what = f"{padding.column} makes of the {_by(image.size)} pixels {_by((width, height))}"
        raise MaskUnusable(f"{what}, a side must have at most {MAX_SIDE_PX}: make it smaller")
    mask_HW[top : top + rows, left : left + columns] = False
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image, (left * PIXELS_PER_TOKEN, top * PIXELS_PER_TOKEN))
    return canvas, dilated(mask_HW, mask.dilation)


def grown_codes(padding: Padding, image: Image.Image, codes_HW: Tensor) -> Tensor:
    """Codes of the image, in the place that it has in the larger one, whose other codes are 0."""
    left, top, right, bottom = padding.tokens(image.size)
    return F.pad(codes_HW, (left, right, top, bottom))


def painted_tokens(mask: Mask, pixels: Image.Image) -> Tensor:
    """The tokens to paint, (H, W) bool: those of which more than half is to be, and as many around as the row sets."""
    levels = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8).view(pixels.height, pixels.width)
    mask_HW = token_mask((levels >= 128).float())
    if not bool(mask_HW.any()):
        rule = f"of a token of {PIXELS_PER_TOKEN}x{PIXELS_PER_TOKEN} pixels more than half must be painted"
        raise MaskUnusable(
            f"{mask.column} leaves nothing to paint of the {_by(pixels.size)} pixels: {rule}, so widen what it paints"
        )
    return dilated(mask_HW, mask.dilation)


def kept_pixels(image: Image.Image, mask_HW: Tensor) -> KeptPixels:
    """What stays of an image of which these tokens are painted."""
    kept = Image.fromarray((~mask_HW).to(torch.uint8).mul(255).numpy())
    return KeptPixels(image, kept.resize(image.size, Image.Resampling.NEAREST))


def _from_image(mask_image: Image.Image, mask: Mask, size: tuple[int, int]) -> Image.Image:
    assert mask.image is not None
    what = mask.image.name
    if mask_image.mode not in MASK_MODES:
        raise MaskUnusable(
            f"{what} must be black and white or gray (mode 1 or L), got mode {mask_image.mode}: convert it"
        )
    if mask_image.size != size:
        raise MaskUnusable(f"{what} must be of the image's {_by(size)} pixels, got {_by(mask_image.size)}: resize it")
    return mask_image.convert("L")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
