"""The first pictures of a run on one sheet, each above its words: a preview for a README or a card."""

import io
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from jobs.report.row import ReportRow
from pipeline.errors import ObjectNotFound
from pipeline.store import Store

CONTACT_SHEET_KEY = "report/contact-sheet.png"
MAX_PICTURES = 24
_CELL_PX, _GAP_PX, _COLUMNS = 240, 16, 6
_ARROW_PX = 24  # between the picture a row began with and what was made of it
_LINE_PX, _MAX_LINES = 17, 5


def contact_sheet(store: Store, rows: Sequence[ReportRow]) -> bytes | None:
    """A PNG of the first rows that have a picture, what they began with and what they made; None if there are none."""
    cells: list[tuple[Image.Image, str]] = []
    for row in rows:
        if len(cells) == MAX_PICTURES:
            break
        keys = [key for key in (row.source, row.image) if key is not None]
        if row.is_done and keys:
            try:
                cells.append((_joined([store.get(key) for key in keys]), f"{row.prompt}  {row.text or ''}"))
            except (ObjectNotFound, OSError):  # the page shows them as missing
                continue
    if not cells:
        return None
    buffer = io.BytesIO()
    _sheet(cells).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _sheet(cells: Sequence[tuple[Image.Image, str]]) -> Image.Image:
    row_px = _CELL_PX + _MAX_LINES * _LINE_PX + _GAP_PX
    columns, num_rows = min(_COLUMNS, len(cells)), -(-len(cells) // _COLUMNS)
    sheet = Image.new("RGB", (columns * (_CELL_PX + _GAP_PX) + _GAP_PX, num_rows * row_px + _GAP_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (image, text) in enumerate(cells):
        left = _GAP_PX + number % _COLUMNS * (_CELL_PX + _GAP_PX)
        top = _GAP_PX + number // _COLUMNS * row_px
        sheet.paste(image, (left, top + _CELL_PX - image.height))
        printable = "".join(character if character.isprintable() else "·" for character in text)
        draw.text((left, top + _CELL_PX + 5), "\n".join(textwrap.wrap(printable, 36)[:_MAX_LINES]), "black", font)
    return sheet


def _joined(files: Sequence[bytes]) -> Image.Image:
    """A picture as large as a cell, or the one a row began with and what was made of it, side by side."""
    if len(files) == 1:
        return _fitted(files[0], _CELL_PX)
    before, after = (_fitted(data, (_CELL_PX - _ARROW_PX) // 2) for data in files)
    joined = Image.new("RGB", (_CELL_PX, max(before.height, after.height)), "white")
    joined.paste(before, (0, joined.height - before.height))
    joined.paste(after, (before.width + _ARROW_PX, joined.height - after.height))
    middle = before.width + _ARROW_PX // 2, joined.height // 2
    points = [(middle[0] - 5, middle[1] - 7), (middle[0] + 6, middle[1]), (middle[0] - 5, middle[1] + 7)]
    ImageDraw.Draw(joined).polygon(points, fill="dimgray")
    return joined


def _fitted(data: bytes, side_px: int) -> Image.Image:
    """The image in a square of ``side_px``; small ones keep sharp pixels."""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    scale = side_px / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
