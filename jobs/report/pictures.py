"""Thumbnails of results and inputs, made once and kept beside the page, and the contact sheet of the first ones."""

import hashlib
import io
import os
import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from PIL import Image, ImageDraw, ImageFont

from jobs.report.row import ManifestCell, ReportRow
from pipeline.images.decoder import ImageUnreadable
from pipeline.images.inputs import ImageFetcher, ignore_pillow_warnings
from pipeline.ordered_map import thread_map
from pipeline.protocol.source_policy import SourcePolicy
from pipeline.storage.base import Store
from pipeline.storage.errors import ObjectNotFound, StoreError

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
    """A picture, or the input of a row and what was made of it, side by side."""
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


THUMB_PX, SOURCE_PX = 320, 640
THUMBS_PREFIX, SOURCES_PREFIX = "report/thumbs/", "report/sources/"
_THREADS = max(4, os.cpu_count() or 1)
_QUALITY = 82


class PictureShelf:
    """Writes small pictures into the report of one output; those that are there already stay."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._there = {*store.list(THUMBS_PREFIX), *store.list(SOURCES_PREFIX)}

    def add_thumbs(self, rows: Iterable[ReportRow], is_missing: Callable[[str], None]) -> None:
        """Give each image its ``thumb``; one that is small enough is its own.

        Args:
            rows: Those of them with an image are changed.
            is_missing: Called with the key of each image that cannot be read.
        """
        ignore_pillow_warnings()
        images = [row for row in rows if row.image is not None]
        for row, thumb in zip(images, thread_map(self._thumb, images, num_threads=_THREADS), strict=True):
            row.thumb = thumb
            if thumb is None and row.image is not None:
                is_missing(row.image)

    def add_sources(self, cells: Iterable[ManifestCell], rows: dict[int, ReportRow], policy: SourcePolicy) -> None:
        """Give each row its ``source``, and a failed row its cells of the manifest; no image is no error."""
        with closing(ImageFetcher(policy)) as fetcher:
            for cell, source in thread_map(partial(self._source, fetcher), cells, num_threads=_THREADS):
                row = rows[cell.row]
                row.source = source
                row.task = row.task or cell.task or ""
                row.prompt = row.prompt or cell.prompt or ""

    def _thumb(self, row: ReportRow) -> str | None:
        assert row.image is not None
        if max(row.width or 0, row.height or 0) <= THUMB_PX:
            return row.image
        key = f"{THUMBS_PREFIX}{row.row:010d}-{str(row.settings.get('sha256', ''))[:12]}.webp"
        if key not in self._there:
            try:
                with Image.open(io.BytesIO(self._store.get(row.image))) as image:
                    self._put(key, image, THUMB_PX)
            except (StoreError, OSError, SyntaxError, ValueError) as error:  # Pillow raises these for damaged files
                if isinstance(error, StoreError) and error.retryable:
                    raise
                return None
        return key

    def _source(self, fetcher: ImageFetcher, cell: ManifestCell) -> tuple[ManifestCell, str | None]:
        if cell.image is None:
            return cell, None
        name = cell.image.data if cell.image.data is not None else str(cell.image.uri).encode()
        key = f"{SOURCES_PREFIX}{cell.row:010d}-{hashlib.sha256(name).hexdigest()[:12]}.webp"
        if key not in self._there:
            try:
                self._put(key, fetcher.fetch(cell.image, cell.folder_uri), SOURCE_PX)
            except (StoreError, ImageUnreadable):
                return cell, None
        return cell, key

    def _put(self, key: str, image: Image.Image, side_px: int) -> None:
        is_small = max(image.size) <= side_px // 2
        image.draft("RGB", (side_px, side_px))
        image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, format="WEBP", quality=_QUALITY, lossless=is_small, method=3)
        self._store.put(key, buffer.getvalue(), content_type="image/webp")
