"""The part of the image that is generated: a mask image, a box, a share of the middle, or a border around it.

What is checked here needs no image; whether a mask fits its image is checked by the worker.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dimoo_core.settings import MAX_SIDE_PX, PIXELS_PER_TOKEN
from manifests.cells import numbers_cell, short_repr, whole_cell
from manifests.errors import ManifestRowError
from manifests.row.images import ImageSource, image_source
from manifests.tasks import MASK_COLUMNS, PAD_COLUMNS

_SIDES = ("left", "top", "right", "bottom")

Sides = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Padding:
    """The values of ``column`` for left, top, right and bottom, each 0 or more and not all 0."""

    column: str
    sides: Sides

    def tokens(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Tokens to add to an image of this width and height on each side; what is not whole is rounded up."""
        width, height = size if self.column == "pad_ratio" else (1, 1)
        left, top, right, bottom = self.sides
        return _tokens(left * width), _tokens(top * height), _tokens(right * width), _tokens(bottom * height)


def padding_cells(record: Mapping[str, Any]) -> list[Padding]:
    """Every padding that a row gives, by the order of the columns."""
    found: list[Padding] = []
    for column in PAD_COLUMNS:
        sides = numbers_cell(column, record.get(column), _SIDES)
        if sides is None:
            continue
        left, top, right, bottom = sides
        most, unit = (MAX_SIDE_PX, "pixels") if column == "pad_px" else (MAX_SIDE_PX / PIXELS_PER_TOKEN, "shares")
        if not all(0 <= side <= most for side in sides) or not any(sides):
            allowed = f"{unit} from 0 to {most:g} that are not all 0"
            raise ManifestRowError(
                f"{column} must be {allowed}, got {short_repr(record[column])}: give [{', '.join(_SIDES)}]"
            )
        found.append(Padding(column, (left, top, right, bottom)))
    return found


def _tokens(pixels: float) -> int:
    return math.ceil(round(pixels, 6) / PIXELS_PER_TOKEN)


MAX_DILATION = 128
"""Tokens along the largest side that an image can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Exactly one of ``image``, ``box``, ``ratio`` and ``padding``.

    Of an image, white is painted. ``box`` is left, top, right and bottom in pixels of the input image, the last two
    the first beyond it; ``ratio`` a box in the middle, as shares of width and height in (0, 1]. ``dilation`` is how
    many tokens of 16 pixels the painted part grows on every side.
    """

    image: ImageSource | None = None
    box: tuple[int, int, int, int] | None = None
    ratio: tuple[float, float] | None = None
    padding: Padding | None = None
    dilation: int = 0

    @property
    def column(self) -> str:
        """The column that gave it."""
        if self.padding is not None:
            return self.padding.column
        given = (self.image, self.box, self.ratio)
        return next(name for name, value in zip(MASK_COLUMNS, given, strict=True) if value is not None)


def mask_cells(record: Mapping[str, Any], task: str, *, can_grow: bool) -> Mask:
    """The mask of a row whose task needs one; where the image can grow, padding stands in for it."""
    image = image_source(record.get("mask_image"), "mask_image")
    box, ratio = _box(record.get("mask_box")), _ratio(record.get("mask_ratio"))
    paddings = padding_cells(record) if can_grow else []
    given = [name for name, value in zip(MASK_COLUMNS, (image, box, ratio), strict=True) if value is not None]
    given += [padding.column for padding in paddings]
    if not given:
        *first, last = (*MASK_COLUMNS, *PAD_COLUMNS) if can_grow else MASK_COLUMNS
        raise ManifestRowError(f"{', '.join(first)} and {last} are null, task {task!r} needs one of them: give one")
    if len(given) > 1:
        raise ManifestRowError(f"{' and '.join(given)} are given, a row has one mask: leave all but one null")
    dilation, padding = _dilation(record.get("mask_dilation")), paddings[0] if paddings else None
    return Mask(image=image, box=box, ratio=ratio, padding=padding, dilation=dilation)


def _box(value: object) -> tuple[int, int, int, int] | None:
    numbers = numbers_cell("mask_box", value, ("left", "top", "right", "bottom"))
    if numbers is None:
        return None
    if not all(number.is_integer() for number in numbers):
        raise ManifestRowError(f"mask_box must be whole pixels, got {short_repr(value)}")
    left, top, right, bottom = (int(number) for number in numbers)
    if not (0 <= left < right and 0 <= top < bottom):
        allowed = "have 0 <= left < right and 0 <= top < bottom"
        raise ManifestRowError(f"mask_box must {allowed}, got {short_repr(value)}: give [left, top, right, bottom]")
    return left, top, right, bottom


def _ratio(value: object) -> tuple[float, float] | None:
    numbers = numbers_cell("mask_ratio", value, ("width", "height"))
    if numbers is None:
        return None
    width, height = numbers
    if not (0 < width <= 1 and 0 < height <= 1):
        raise ManifestRowError(f"mask_ratio must be two shares above 0 and at most 1, got {short_repr(value)}")
    return width, height


def _dilation(value: object) -> int:
    dilation = whole_cell("mask_dilation", value)
    if dilation is not None and not 0 <= dilation <= MAX_DILATION:
        raise ManifestRowError(f"mask_dilation must be from 0 to {MAX_DILATION} tokens, got {dilation}")
    return dilation or 0
