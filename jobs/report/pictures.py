"""Small pictures of results and of input images, made once and kept beside the page."""

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from PIL import Image

from jobs.report.manifest_rows import ManifestCell
from jobs.report.row import ReportRow
from pipeline.fetch import ImageFetcher, ignore_pillow_warnings
from pipeline.image_decoder import ImageUnreadable
from pipeline.ordered_map import ordered_map
from pipeline.source_policy import SourcePolicy
from pipeline.store import Store
from pipeline.store_errors import StoreError

THUMB_PX, SOURCE_PX = 320, 640
THUMBS_PREFIX, SOURCES_PREFIX = "report/thumbs/", "report/sources/"
_THREADS = max(4, os.cpu_count() or 1)
_QUALITY = 82


class PictureShelf:
    """Writes small pictures into the report of one output; those that are there already stay.

    Args:
        store: Root of the output.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._there = {*store.list(THUMBS_PREFIX), *store.list(SOURCES_PREFIX)}

    def add_thumbs(self, rows: Iterable[ReportRow], is_missing: Callable[[str], None]) -> None:
        """Give each image its ``thumb``; one that is small enough is its own.

        Args:
            rows: Those of them with an image are changed.
            is_missing: Told the key of each image that cannot be read.
        """
        ignore_pillow_warnings()
        images = [row for row in rows if row.image is not None]
        with ThreadPoolExecutor(_THREADS) as pool:
            for row, thumb in zip(images, ordered_map(pool, self._thumb, images, window=4 * _THREADS), strict=True):
                row.thumb = thumb
                if thumb is None and row.image is not None:
                    is_missing(row.image)

    def add_sources(self, cells: Iterable[ManifestCell], rows: dict[int, ReportRow]) -> None:
        """Give each row its ``source``, and a failed row what the manifest says of it; no image is no error."""
        fetcher = ImageFetcher(SourcePolicy())
        with ThreadPoolExecutor(_THREADS) as pool:
            for cell, source in ordered_map(pool, partial(self._source, fetcher), cells, window=2 * _THREADS):
                row = rows[cell.row]
                row.source = source
                row.task = row.task or cell.task or ""
                row.prompt = row.prompt or cell.prompt or ""
        fetcher.close()

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
