"""Images side by side, each under its name."""

import math
import re
from collections.abc import Sequence

from PIL import Image, ImageDraw

_LEAST_WIDTH, _LABEL_HEIGHT, _GAP = 112, 16, 4


def side_by_side(labelled: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """One row of images; small ones are magnified by a whole number, so that their names fit above them."""
    scale = max(1, math.ceil(_LEAST_WIDTH / min(image.width for _, image in labelled)))
    shown = [
        (label, image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST))
        for label, image in labelled
    ]
    width = sum(image.width + _GAP for _, image in shown) + _GAP
    height = max(image.height for _, image in shown) + _LABEL_HEIGHT + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw, left = ImageDraw.Draw(sheet), _GAP
    for label, image in shown:
        draw.text((left, 2), label, fill="black")
        sheet.paste(image, (left, _LABEL_HEIGHT))
        left += image.width + _GAP
    return sheet


def file_name(dtype: str, row: str) -> str:
    """Name of a row's picture."""
    return re.sub(r"\W+", "-", f"{row} {dtype}").strip("-") + ".png"
