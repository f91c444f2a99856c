"""How far a row wants its image to grow on each side, in pixels or as shares of its width and height."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dimoo_core.settings import MAX_SIDE_PX, PIXELS_PER_TOKEN
from manifests.cell import numbers_cell, shown
from manifests.errors import ManifestRowError
from manifests.task_kind import PAD_COLUMNS

_SIDES = ("left", "top", "right", "bottom")

Sides = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Padding:
    """What ``column`` says of left, top, right and bottom, each 0 or more and not all 0."""

    column: str
    sides: Sides

    def tokens(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Tokens to add to an image of this width and height on each side; what is not whole is rounded up."""
        width, height = size if self.column == "pad_ratio" else (1, 1)
        left, top, right, bottom = self.sides
        return _tokens(left * width), _tokens(top * height), _tokens(right * width), _tokens(bottom * height)


def padding_cells(record: Mapping[str, Any]) -> list[Padding]:
    """Every padding that a row gives, by the order of the columns.

    Raises:
        ManifestRowError: A value has the wrong type or range.
    """
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
                f"{column} must be {allowed}, got {shown(record[column])}: give [{', '.join(_SIDES)}]"
            )
        found.append(Padding(column, (left, top, right, bottom)))
    return found


def _tokens(pixels: float) -> int:
    return math.ceil(round(pixels, 6) / PIXELS_PER_TOKEN)
