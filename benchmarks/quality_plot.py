"""The picture of quality against cost: panels for temperatures of images and one for texts, drawn with Pillow alone."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.contender import Kind, title_of
from benchmarks.quality_point import Point

_PANEL = (900, 640)
_COLUMNS = 2
_MARGINS = (90, 56, 30, 76)  # left, top, right, bottom, in pixels
_INK, _PALE = (32, 36, 44), (222, 226, 232)
_COLOURS: dict[Kind, tuple[int, int, int]] = {
    "steps": (90, 98, 112),
    "preset": (200, 54, 60),
    "setting": (38, 110, 178),
}
_LEGEND: dict[Kind, str] = {"steps": "exact, in so many steps", "preset": "presets", "setting": "single settings"}
_TICKS = (1.0, 2.0, 5.0)

Box = tuple[float, float, float, float]
"""Left, upper, right, lower, in pixels."""


class Panel:
    """Axes of one group of points: cost from left to right, in logarithms; accuracy upwards, in per cent."""

    def __init__(self, draw: ImageDraw.ImageDraw, left: int, upper: int, points: Sequence[Point]) -> None:
        self._draw = draw
        self._font = ImageFont.load_default(17)
        self._points = points
        self._taken: list[Box] = []  # by points and their names
        costs = [math.log10(point.flops) for point in points]
        self._low, self._high = min(costs) - 0.05, max(costs) + 0.15
        shares = [100 * point.accuracy for point in points]
        self._rise = next((rise for rise in (1, 2, 5) if max(shares) - min(shares) < 8 * rise), 10)  # of a line
        self._top = min(100, self._rise * (math.floor(max(shares) / self._rise) + 1))
        self._bottom = max(0, self._rise * (math.ceil(min(shares) / self._rise) - 1))
        self._left, self._right = left + _MARGINS[0], left + _PANEL[0] - _MARGINS[2]
        self._upper, self._lower = upper + _MARGINS[1], upper + _PANEL[1] - _MARGINS[3]

    def place(self, flops: float, accuracy: float) -> tuple[float, float]:
        """Pixels of a cost and a share."""
        across = (math.log10(flops) - self._low) / (self._high - self._low)
        up = (100 * accuracy - self._bottom) / max(1.0, self._top - self._bottom)
        return self._left + across * (self._right - self._left), self._lower - up * (self._lower - self._upper)

    def draw(self) -> None:
        """Axes, the curve of fewer steps, and every point with its name."""
        self._axes()
        curve = sorted((p for p in self._points if p.contender.kind == "steps"), key=lambda point: point.flops)
        self._draw.line([self.place(p.flops, p.accuracy) for p in curve], fill=_COLOURS["steps"], width=3)
        places = [self.place(point.flops, point.accuracy) for point in self._points]
        self._taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
        for point, box in zip(self._points, tuple(self._taken), strict=True):
            self._draw.ellipse(box, fill=_COLOURS[point.contender.kind])
        for point, (x, y) in zip(self._points, places, strict=True):
            self._name(point, x, y)

    def _name(self, point: Point, x: float, y: float) -> None:
        """Write a point's name where nothing is written yet: to its right or its left, or farther with a line to it."""
        name, colour = point.contender.name, _COLOURS[point.contender.kind]
        boxes = []
        for rise in (-22, 4, -44, 26, -66, 48, -88, 70, 92):
            for across, anchor in ((9, "la"), (-9, "ra")):
                place = (x + across, y + rise)
                boxes.append((place, anchor, self._draw.textbbox(place, name, self._font, anchor)))
        place, anchor, box = next((each for each in boxes if self._is_free(each[2])), boxes[0])
        self._taken.append(box)
        left, upper, right, lower = box
        if lower < y - 22 or upper > y + 22:
            self._draw.line((x, y, left if anchor == "la" else right, lower if lower < y else upper), fill=colour)
        self._draw.text(place, name, colour, self._font, anchor)

    def _is_free(self, box: Box) -> bool:
        left, upper, right, lower = box
        is_inside = self._left <= left and right <= self._right and self._upper - 30 <= upper and lower <= self._lower
        return is_inside and all(
            right < other[0] or other[2] < left or lower < other[1] or other[3] < upper for other in self._taken
        )

    def _axes(self) -> None:
        unit = self._points[0].contender.unit
        for percent in range(self._bottom, self._top + 1, self._rise):
            _, y = self.place(10**self._low, percent / 100)
            self._draw.line((self._left, y, self._right, y), fill=_PALE)
            self._draw.text((self._left - 10, y), f"{percent}", fill=_INK, font=self._font, anchor="rm")
        for exponent in range(math.floor(self._low), math.ceil(self._high) + 1):
            for tick in _TICKS:
                flops = tick * 10**exponent
                if self._low <= math.log10(flops) <= self._high:
                    x, _ = self.place(flops, 0)
                    self._draw.line((x, self._upper, x, self._lower), fill=_PALE)
                    self._draw.text((x, self._lower + 8), f"{flops / 1e9:g}", fill=_INK, font=self._font, anchor="ma")
        middle = (self._left + self._right) / 2
        self._draw.text((middle, self._lower + 34), f"GFLOP a{'n' * (unit == 'image')} {unit}", _INK, self._font, "ma")
        title = f"{title_of(self._points[0].contender)}: right, in per cent"
        self._draw.text((self._left, self._upper - 44), title, _INK, self._font)
        for index, (kind, words) in enumerate(_LEGEND.items()):
            y = self._lower - 66 + 22 * index
            self._draw.ellipse((self._right - 210, y - 6, self._right - 198, y + 6), fill=_COLOURS[kind])
            self._draw.text((self._right - 188, y), words, fill=_COLOURS[kind], font=self._font, anchor="lm")


def save_plot(path: Path, groups: Sequence[Sequence[Point]]) -> None:
    """Draw each group of points in a panel of its own, two side by side, as a PNG."""
    width, height = _PANEL
    canvas = Image.new("RGB", (width * min(_COLUMNS, len(groups)), height * math.ceil(len(groups) / _COLUMNS)), "white")
    draw = ImageDraw.Draw(canvas)
    for index, points in enumerate(groups):
        row, column = divmod(index, _COLUMNS)
        Panel(draw, column * width, row * height, points).draw()
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(64).save(path, format="PNG", optimize=True)
