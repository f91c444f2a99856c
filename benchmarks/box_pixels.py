"""A box of an image as a pixel mask, as the goldens of inpainting were recorded."""

import torch
from torch import Tensor

from dimoo_core.request.inpainting import Box, Size
from dimoo_core.settings import PIXELS_PER_TOKEN


def encoded_size(size: Size) -> Size:
    """The size at which the codec encodes an image: each side the next lower multiple of a token's."""
    width, height = (side // PIXELS_PER_TOKEN * PIXELS_PER_TOKEN for side in size)
    return width, height


def box_pixels(size: Size, box: Box) -> Tensor:
    """A box on an image of ``size`` as a pixel mask at the encoded size, (h, w) float32, 1 inside."""
    width, height = encoded_size(size)
    left, box_width = round(box.left * width / size[0]), round((box.right - box.left) * width / size[0])
    top, box_height = round(box.top * height / size[1]), round((box.bottom - box.top) * height / size[1])
    pixels_hw = torch.zeros(height, width)
    pixels_hw[top : top + box_height, left : left + box_width] = 1.0
    return pixels_hw
