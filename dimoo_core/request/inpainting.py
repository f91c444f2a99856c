"""Which tokens of an image are to be regenerated: boxes and pixel masks, aligned to the token grid.

Source: ``encode_img_with_paint`` of the reference, which knows a box in the middle of the image; masks of any form,
boxes anywhere and margins around the image are made here in the same way.
Dimensions: h, w pixels as they are encoded; H rows, W columns of tokens.
"""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from dimoo_core.errors import RequestError
from dimoo_core.settings import PIXELS_PER_TOKEN

Size = tuple[int, int]
"""Width and height in pixels."""

Alignment = Literal["area", "bilinear", "nearest"]
"""When a token counts as masked: more than half of its pixels, half of those in its middle, or its first pixel."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels; ``right`` and ``bottom`` are the first beyond it."""

    left: int
    top: int
    right: int
    bottom: int


def centered_box(size: Size, width_ratio: float, height_ratio: float) -> Box:
    """The box in the middle that takes these shares of an image's sides."""
    (width, height), (box_width, box_height) = size, (round(size[0] * width_ratio), round(size[1] * height_ratio))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return Box(left, top, left + box_width, top + box_height)


def token_mask(pixels_hw: Tensor, alignment: Alignment = "area") -> Tensor:
    """The tokens that a pixel mask of the encoded size covers, (H, W) bool.

    Args:
        pixels_hw: 1 where pixels are to be painted, 0 where they are kept.
        alignment: ``area`` is the reference's default.
    """
    grid = (pixels_hw.shape[0] // PIXELS_PER_TOKEN, pixels_hw.shape[1] // PIXELS_PER_TOKEN)
    cells_HW = F.interpolate(pixels_hw[None, None].float(), size=grid, mode=alignment)[0, 0]
    return cells_HW > 0.5 if alignment == "area" else cells_HW >= 0.5


def dilated(mask_HW: Tensor, num_tokens: int) -> Tensor:
    """The mask grown by ``num_tokens`` tokens on every side, diagonals included."""
    if num_tokens == 0:
        return mask_HW
    width = 2 * num_tokens + 1
    return F.max_pool2d(mask_HW[None, None].float(), width, stride=1, padding=num_tokens)[0, 0] > 0.5


def masked_codes(codes_HW: Tensor, mask_HW: Tensor) -> Tensor:
    """Codes with -1 where the mask is.

    Raises:
        RequestError: If the mask has another grid than the codes, or covers nothing.
    """
    if mask_HW.shape != codes_HW.shape:
        raise RequestError(f"the mask has {tuple(mask_HW.shape)} tokens, the image {tuple(codes_HW.shape)}")
    if not bool(mask_HW.any()):
        raise RequestError("the mask covers no token: a token is 16x16 pixels, and more than half of it must be masked")
    return codes_HW.masked_fill(mask_HW, -1)
