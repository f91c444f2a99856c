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
_LINE_PX, _MAX_LINES = 17, 5


def contact_sheet(store: Store, rows: Sequence[ReportRow]) -> bytes | None:
    """A PNG of the first rows that have a picture, of what they made or looked at; None if there are none."""
    cells: list[tuple[Image.Image, str]] = []
    for row in rows:
        if len(cells) == MAX_PICTURES:
            break
        key = row.image or row.source
        if row.is_done and key is not None:
            try:
                cells.append((_fitted(store.get(key)), f"{row.prompt}  {row.text or ''}"))
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


def _fitted(data: bytes) -> Image.Image:
    """The image as large as a cell; small ones keep sharp pixels."""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    scale = _CELL_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
