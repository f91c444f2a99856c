"""What a training run leaves behind: one JSON line a report, and a picture of its curve."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

_SIZE, _MARGIN = (760, 320), 44
_LINES = ((38, 92, 224), (226, 42, 46), (42, 168, 72), (150, 44, 190), (250, 134, 16), (90, 90, 90))


class TrainingLog:
    """Appends to ``<directory>/<name>.jsonl`` and redraws ``<directory>/<name>.png``."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lines_path = directory / f"{name}.jsonl"
        self._curve_path = directory / f"{name}.png"

    def append(self, **report: Any) -> None:
        """Add one report and print it."""
        line = json.dumps(
            {key: round(value, 5) if isinstance(value, float) else value for key, value in report.items()}
        )
        with self._lines_path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def reports(self) -> list[dict[str, Any]]:
        """All reports so far, oldest first."""
        if not self._lines_path.exists():
            return []
        return [json.loads(line) for line in self._lines_path.read_text(encoding="utf-8").splitlines()]

    def draw_curve(self, x: str, y: str, series: str) -> None:
        """Picture of ``y`` (logarithmic) over ``x``, one line for each value of ``series``."""
        lines: dict[str, list[tuple[float, float]]] = {}
        for report in self.reports():
            if x in report and report.get(y, 0) > 0:
                lines.setdefault(str(report.get(series, y)), []).append((float(report[x]), float(report[y])))
        if lines:
            draw_lines(lines, x_label=x, y_label=y).save(self._curve_path)


def draw_lines(lines: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str) -> Image.Image:
    """A plain chart with a logarithmic y axis; each line must have at least one point, each y must be positive."""
    from math import ceil, floor, log10

    points = [point for line in lines.values() for point in line]
    right = max(x for x, _ in points) or 1.0
    low, high = floor(log10(min(y for _, y in points))), ceil(log10(max(y for _, y in points)) + 1e-9)
    image = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(image)
    width, height = _SIZE[0] - 2 * _MARGIN, _SIZE[1] - 2 * _MARGIN

    def place(x: float, y: float) -> tuple[float, float]:
        return _MARGIN + width * x / right, _MARGIN + height * (high - log10(y)) / max(high - low, 1)

    for exponent in range(low, high + 1):
        _, y = place(0, 10.0**exponent)
        draw.line((_MARGIN, y, _MARGIN + width, y), fill=(215, 215, 215))
        draw.text((4, y - 5), f"1e{exponent}", fill="black")
    draw.text((_MARGIN, 8), y_label, fill="black")
    draw.text((_MARGIN + width - 120, _SIZE[1] - 20), f"{x_label}, 0 to {right:g}", fill="black")
    for index, (name, line) in enumerate(lines.items()):
        colour = _LINES[index % len(_LINES)]
        draw.line([place(*point) for point in line], fill=colour, width=2)
        draw.text((_MARGIN + 90 + 105 * index, 8), name, fill=colour)
    return image
