"""The first pictures of a run on one sheet, each above its words: a preview for a README or a card."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from jobs.report.row import ReportRow
from pipeline.store import Store
from pipeline.store_errors import ObjectNotFound

CONTACT_SHEET_KEY = "report/contact-sheet.png"
MAX_PICTURES = 24
_SHEET_PX, _PICTURE_PX, _GAP_PX = 1552, 192, 16
_MAX_WIDTH_PX, _MIN_WORDS_PX = 360, 176  # of one picture, and of the words under a narrow one
_ARROW_PX = 24  # between the picture a row began with and what was made of it
_LINE_PX, _LETTER_PX, _MAX_LINES = 17, 7, 5
_PROMPT_COLOUR, _ANSWER_COLOUR = "black", "#1a4fa0"


@dataclass(frozen=True, slots=True)
class _Cell:
    """A picture and the lines under it, each with its colour."""

    picture: Image.Image
    lines: Sequence[tuple[str, str]]

    @property
    def width_px(self) -> int:
        return max(self.picture.width, _MIN_WORDS_PX)

    @property
    def height_px(self) -> int:
        return _PICTURE_PX + 5 + len(self.lines) * _LINE_PX


def contact_sheet(store: Store, rows: Sequence[ReportRow]) -> bytes | None:
    """A PNG of the first rows that have a picture, what they began with and what they made; None if there are none."""
    cells: list[_Cell] = []
    for row in rows:
        if len(cells) == MAX_PICTURES:
            break
        keys = [key for key in (row.source, row.image) if key is not None]
        if row.is_done and keys:
            try:
                picture = _joined([store.get(key) for key in keys])
            except (ObjectNotFound, OSError):  # the page shows them as missing
                continue
            cells.append(_Cell(picture, _lines(row, max(picture.width, _MIN_WORDS_PX))))
    if not cells:
        return None
    buffer = io.BytesIO()
    _sheet(_in_rows(cells)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _lines(row: ReportRow, width_px: int) -> list[tuple[str, str]]:
    """What was asked, and what was answered, as wide as the picture above."""
    letters = width_px // _LETTER_PX
    asked = [(line, _PROMPT_COLOUR) for line in textwrap.wrap(_printable(row.prompt or ""), letters)]
    answered = [(line, _ANSWER_COLOUR) for line in textwrap.wrap(_printable(row.text or ""), letters)]
    return (asked + answered)[:_MAX_LINES]


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "·" for character in text)


def _in_rows(cells: Sequence[_Cell]) -> list[list[_Cell]]:
    """Cells in their order, as many in a row as fit."""
    rows: list[list[_Cell]] = [[]]
    for cell in cells:
        if rows[-1] and _width_px([*rows[-1], cell]) > _SHEET_PX:
            rows.append([])
        rows[-1].append(cell)
    return rows


def _width_px(row: Sequence[_Cell]) -> int:
    return _GAP_PX + sum(cell.width_px + _GAP_PX for cell in row)


def _sheet(rows: Sequence[Sequence[_Cell]]) -> Image.Image:
    heights = [max(cell.height_px for cell in row) + _GAP_PX for row in rows]
    sheet = Image.new("RGB", (max(map(_width_px, rows)), _GAP_PX + sum(heights)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    top = _GAP_PX
    for row, height_px in zip(rows, heights, strict=True):
        left = _GAP_PX
        for cell in row:
            sheet.paste(cell.picture, (left, top + _PICTURE_PX - cell.picture.height))
            for number, (line, colour) in enumerate(cell.lines):
                draw.text((left, top + _PICTURE_PX + 5 + number * _LINE_PX), line, colour, font)
            left += cell.width_px + _GAP_PX
        top += height_px
    return sheet


def _joined(files: Sequence[bytes]) -> Image.Image:
    """A picture, or the one a row began with and what was made of it, side by side."""
    if len(files) == 1:
        return _fitted(files[0])
    before, after = map(_fitted, files)
    joined = Image.new("RGB", (before.width + _ARROW_PX + after.width, max(before.height, after.height)), "white")
    joined.paste(before, (0, joined.height - before.height))
    joined.paste(after, (before.width + _ARROW_PX, joined.height - after.height))
    middle = before.width + _ARROW_PX // 2, joined.height // 2
    points = [(middle[0] - 5, middle[1] - 7), (middle[0] + 6, middle[1]), (middle[0] - 5, middle[1] + 7)]
    ImageDraw.Draw(joined).polygon(points, fill="dimgray")
    return joined


def _fitted(data: bytes) -> Image.Image:
    """The image as high as a row of the sheet, or as wide as it may be; small ones keep sharp pixels."""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    scale = min(_PICTURE_PX / image.height, _MAX_WIDTH_PX / image.width)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
