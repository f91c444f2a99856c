"""Draw what became of ``all-tasks.parquet``: a panel for each task with its prompts, its inputs and its results.

dimoo-batch run examples/all-tasks.parquet --spec examples/all-tasks.yaml --output all-tasks-output
python -m examples.task_sheet all-tasks-output [docs/images/all-tasks.png]
"""

import io
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from manifests.files.parquet import ParquetReader
from manifests.row.parse import Row, parse_rows
from manifests.row.settings import RowDefaults
from manifests.tasks import OUTPAINT, TASKS
from pipeline.rows.inpaint import painted_pixels

MANIFEST = Path(__file__).with_name("all-tasks.parquet")
TARGET = Path(__file__).parents[1] / "docs" / "images" / "all-tasks.png"

_PANEL_PX, _GAP_PX, _PICTURE_PX, _COLUMNS = 520, 14, 96, 3
_ARROW_PX, _LINE_PX, _WORDS_PER_LINE, _TITLE_PX = 26, 16, 76, 24
_INK, _FAINT, _PAPER, _SHEET = "#1b1f24", "#5b6672", "#ffffff", "#e9ecef"
_PAINTED = (255, 0, 128)


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the manifest: its words, what it began with, and pictures or words that came of it."""

    words: str
    inputs: tuple[Image.Image, ...]
    results: tuple[Image.Image, ...]
    answer: str

    def height(self) -> int:
        """In pixels, with the gap below."""
        pictures = [*self.inputs, *self.results]
        tallest = max((picture.height for picture in pictures), default=_LINE_PX)
        return _LINE_PX * len(_wrapped(self.words)) + 4 + tallest + _GAP_PX


def panels(output: Path) -> Iterator[tuple[str, list[Line]]]:
    """Each task with its rows, in the order of the tasks.

    Raises:
        ValueError: The output is not a finished run of the example.
    """
    with MANIFEST.open("rb") as file:
        rows = [row for row in parse_rows(ParquetReader(file).table(), 0, RowDefaults()) if isinstance(row, Row)]
    done = {each["id"]: each for path in sorted((output / "parts").glob("*.parquet")) for each in _part(path)}
    if missing := [row.id for row in rows if row.id not in done]:
        raise ValueError(f"{output} has no row {missing[0]!r}: run {MANIFEST.name} to its end")
    for task in TASKS:
        yield task, [_line(row, done[row.id], output) for row in rows if row.task == task]


def _part(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        found: list[dict[str, Any]] = ParquetReader(file).table().to_pylist()
        return found


def _line(row: Row, done: dict[str, Any], output: Path) -> Line:
    inputs = [_picture(source.data or b"") for source in row.inputs]
    if row.mask is not None and row.mask.padding is None:
        painted = painted_pixels(row.mask, inputs[0].size, None, keeps_box=row.task == OUTPAINT)
        inputs[0] = Image.composite(
            Image.blend(inputs[0], Image.new("RGB", inputs[0].size, _PAINTED), 0.6), inputs[0], painted
        )
    results = [_picture((output / image["output"]).read_bytes()) for image in done["outputs"]]
    # Views have one prompt each, which the number of results shows; turns are told one after the other.
    words = row.series.prompts[0] if TASKS[row.task].kind == "views" else " ".join(row.series.prompts) or done["prompt"]
    return Line(
        words if row.codes is None else f"codes {_codes(row.codes.codes, row.codes.rows)}",
        tuple(map(_enlarged, inputs)),
        tuple(map(_enlarged, results)),
        _answer(done),
    )


def _answer(done: dict[str, Any]) -> str:
    if done["vq_codes"] is not None:
        return _codes(done["vq_codes"], done["vq_grid"][0])
    if done["task"] == "score":
        return f"{done['text']}: probability of yes {done['model_score']:.3f}"
    return done["text"] or ""


def _codes(codes: Sequence[int], rows: int) -> str:
    columns = len(codes) // rows
    lines = [" ".join(map(str, codes[start : start + columns])) for start in range(0, len(codes), columns)]
    return " / ".join(lines)


def _picture(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _enlarged(image: Image.Image) -> Image.Image:
    """The picture so that its longer side fills its place, every pixel a square."""
    scale = _PICTURE_PX / max(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.NEAREST)


def _wrapped(words: str, width: int = _WORDS_PER_LINE) -> list[str]:
    return textwrap.wrap(words, width)[:3]


def _panel(task: str, lines: Sequence[Line]) -> Image.Image:
    """One task's panel."""
    height = _GAP_PX + _TITLE_PX + sum(line.height() for line in lines)
    panel = Image.new("RGB", (_PANEL_PX, height), _PAPER)
    draw, title, font = ImageDraw.Draw(panel), ImageFont.load_default(17), ImageFont.load_default(13)
    draw.text((_GAP_PX, 8), task, _INK, title)
    top = _GAP_PX + _TITLE_PX
    for line in lines:
        words = _wrapped(line.words)
        draw.text((_GAP_PX, top), "\n".join(words), _FAINT, font)
        _draw_row(panel, line, top + _LINE_PX * len(words) + 4)
        top += line.height()
    return panel


def _draw_row(panel: Image.Image, line: Line, top: int) -> None:
    """Inputs, an arrow, results."""
    draw, left = ImageDraw.Draw(panel), _GAP_PX
    middle = top + max((picture.height for picture in (*line.inputs, *line.results)), default=_LINE_PX) // 2
    for picture in line.inputs:
        panel.paste(picture, (left, top))
        left += picture.width + 6
    draw.polygon([(left + 4, middle - 7), (left + 16, middle), (left + 4, middle + 7)], fill=_FAINT)
    left += _ARROW_PX
    for picture in line.results:
        panel.paste(picture, (left, top))
        left += picture.width + 6
    if line.answer:
        width = (_PANEL_PX - left - _GAP_PX) // 7
        words = textwrap.wrap(line.answer, max(8, width))[:5]
        draw.text((left, middle - _LINE_PX * len(words) // 2), "\n".join(words), _INK, ImageFont.load_default(14))


def sheet(found: Sequence[Image.Image]) -> Image.Image:
    """The panels in columns of about one height, read from top to bottom."""
    total = sum(panel.height + _GAP_PX for panel in found)
    columns: list[list[Image.Image]] = [[] for _ in range(_COLUMNS)]
    passed = 0
    for panel in found:
        middle = passed + panel.height // 2
        columns[min(_COLUMNS - 1, _COLUMNS * middle // total)].append(panel)
        passed += panel.height + _GAP_PX
    height = max(sum(panel.height + _GAP_PX for panel in column) for column in columns) + _GAP_PX
    drawn = Image.new("RGB", (_COLUMNS * (_PANEL_PX + _GAP_PX) + _GAP_PX, height), _SHEET)
    for number, column in enumerate(columns):
        top = _GAP_PX
        for panel in column:
            drawn.paste(panel, (_GAP_PX + number * (_PANEL_PX + _GAP_PX), top))
            top += panel.height + _GAP_PX
    return drawn


def main(output: Path, target: Path) -> None:
    """Draw the sheet of a run."""
    drawn = sheet([_panel(task, lines) for task, lines in panels(output)])
    drawn.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit("usage: python -m examples.task_sheet OUTPUT [TARGET]")
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else TARGET)
