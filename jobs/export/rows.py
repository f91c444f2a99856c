"""The finished rows of a run in order, with their images: what every export is made of."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from PIL import Image

from dimoo_core.errors import ConfigError
from jobs.report.facts import RunFactSheet
from manifests.errors import ManifestRowError
from manifests.files.parquet import ParquetReader
from manifests.files.plan import Segment, ShardPlan
from manifests.files.reader import SegmentReader
from manifests.row.images import ImageSource, image_source, image_sources
from pipeline.errors import NotARun
from pipeline.images.decoder import ImageUnreadable
from pipeline.images.inputs import ImageFetcher
from pipeline.ordered_map import thread_map
from pipeline.output.directory import SUCCESS_KEY, RunDirectory
from pipeline.output.parts import PARTS_PREFIX, PartName, parts_by_segment
from pipeline.rows.row_hooks import ImageFile
from pipeline.storage.base import Store
from pipeline.storage.errors import StoreError
from pipeline.storage.reader import ObjectReader
from pipeline.storage.uri import folder_of

_THREADS = 16


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Images that a row of the manifest names or embeds: its one, or its several."""

    image: ImageSource | None = None
    images: tuple[ImageSource, ...] = ()


@dataclass(frozen=True, slots=True)
class FinishedRow:
    """A row of a part; ``image`` is its result, or for a text the image that it is about.

    ``source`` is the input image of a row that has made an image of it. Either is None where there is none.
    ``sources`` are the input images of a row about several, in their order, where input images are asked for.
    """

    cells: dict[str, Any]
    image: ImageFile | None
    source: ImageFile | None
    sources: tuple[ImageFile, ...] = ()

    @property
    def name(self) -> str:
        """Unique in the run, safe in paths, and sorts like the rows."""
        return f"{self.cells['row']:010d}"

    @property
    def split(self) -> str:
        """The row's column ``split``, if it has one."""
        split = self.cells.get("split")
        return split if isinstance(split, str) and split.isidentifier() else "train"

    @property
    def has_inputs(self) -> bool:
        """Whether an image that the model was given is here."""
        is_input = self.image is not None and self.cells["output"] is None
        return is_input or self.source is not None or bool(self.sources)

    @property
    def pixels(self) -> Image.Image | None:
        """The image, decoded."""
        return None if self.image is None else Image.open(io.BytesIO(self.image.data))

    @property
    def words(self) -> str:
        """The text that goes with the image: the answer, or the prompt it was made from."""
        return str(self.cells["text"] if self.cells["text"] is not None else self.cells["prompt"])


class FinishedRows:
    """Reads a run's parts, and the images of their rows.

    Args:
        is_partial: Whether a run that has not ended will do.
        with_sources: Whether input images of image results are read too.
        manifest_uri: Where the manifest is now, if not where the run found it; input images are found through it.

    Raises:
        NotARun: No run is there, or it has not ended.
        ManifestError, StoreError: The manifest is needed for input images and cannot be read.
    """

    def __init__(self, store: Store, *, is_partial: bool, with_sources: bool, manifest_uri: str | None = None) -> None:
        run = RunDirectory(store)
        description = run.known_description()
        is_complete = store.size(SUCCESS_KEY) is not None
        if not is_partial and not is_complete:
            raise NotARun(f"the run at {store.uri} has not ended: re-run its command to resume, or give --partial")
        self.facts = RunFactSheet(description, is_complete)
        self._store = store
        self._with_sources = with_sources
        self._objects = ObjectReader()
        self._images = ImageFetcher(self.facts.sources)
        self._manifest_uri = manifest_uri or str(description["manifest"])
        self._segment_rows = int(description["results"]["segment_rows"])
        self._limit = description["results"].get("limit")
        self.segments = list(parts_by_segment(store.list(PARTS_PREFIX)))
        self._plan: ShardPlan | None = None

    @property
    def schema(self) -> pa.Schema:
        """Columns of the rows, as in the first part."""
        if not self.segments:
            raise NotARun(f"the run at {self._store.uri} has finished no rows yet")
        with self._store.open(self.segments[0][0].key) as file:
            return ParquetReader(file).schema.remove_metadata()

    @property
    def has_several_images(self) -> bool:
        """Whether input images are asked for, and rows of the manifest may have several."""
        if not self._with_sources:
            return False
        with self._objects.open(self._segment(self.segments[0][0].segment).file_uri) as file:
            return "images" in ParquetReader(file).schema.names

    def __iter__(self) -> Iterator[FinishedRow]:
        """Every finished row in order; few are in memory at once."""
        with SegmentReader(self._objects.open) as reader:
            yield from thread_map(self._with_images, self._cells(reader), num_threads=_THREADS)

    def close(self) -> None:
        """Let go of connections and processes."""
        self._objects.close()
        self._images.close()

    def _cells(self, reader: SegmentReader) -> Iterator[tuple[dict[str, Any], _Inputs, str]]:
        """The cells of each row with the input images it needs and the folder that relative names start at."""
        for parts in self.segments:
            name = parts[0].segment
            rows = sorted((row for part in parts for row in self._rows_of(part)), key=lambda row: int(row["row"]))
            needs = [row["output"] is None or self._with_sources for row in rows]
            inputs = self._inputs(name, reader) if any(needs) else {}
            folder = folder_of(self._segment(name).file_uri) if any(needs) else ""
            for row, needs_input in zip(rows, needs, strict=True):
                yield row, inputs.get(row["row"], _Inputs()) if needs_input else _Inputs(), folder

    def _rows_of(self, part: PartName) -> list[dict[str, Any]]:
        with self._store.open(part.key) as file:
            rows: list[dict[str, Any]] = ParquetReader(file).table().to_pylist()
            return rows

    def _inputs(self, name: str, reader: SegmentReader) -> dict[int, _Inputs]:
        """Input images of a segment's rows, as the manifest names or embeds them."""
        segment = self._segment(name)
        table = reader.read(segment)
        names = [name for name in ("image", "images") if name in table.column_names]
        found: dict[int, _Inputs] = {}
        for offset in range(table.num_rows if names else 0):
            try:
                cells = {name: table.column(name)[offset].as_py() for name in names}
                images = image_sources(cells.get("images")) if self._with_sources else ()
                found[segment.first_row + offset] = _Inputs(image_source(cells.get("image")), images)
            except (ManifestRowError, UnicodeDecodeError):
                continue  # the row has failed, so nobody asks for its images
        return found

    def _segment(self, name: str) -> Segment:
        if self._plan is None:
            source = self.facts.manifest(self._manifest_uri)
            self._plan = source.plan(segment_rows=self._segment_rows, limit=self._limit)
        number = self._plan.number_of(name)
        if number is None:
            raise NotARun(f"{self._manifest_uri} is not the manifest of this run, it has no segment {name}: --manifest")
        return self._plan.segment(number)

    def _with_images(self, item: tuple[dict[str, Any], _Inputs, str]) -> FinishedRow:
        cells, inputs, folder = item
        given = self._input(inputs.image, folder) if inputs.image is not None else None
        sources = tuple(self._input(source, folder) for source in inputs.images)
        if cells["output"] is None:
            return FinishedRow(cells, given, None, sources)
        key = cells["output"]
        data = self._store.get(key)
        if hashlib.sha256(data).hexdigest() != cells["sha256"]:
            hint = "it is not the image that its row recorded; run dimoo-batch verify for details"
            raise StoreError("export", self._store.uri_of(key), "DamagedImage", hint)
        return FinishedRow(cells, ImageFile(data, "." + key.rpartition(".")[2]), given, sources)

    def _input(self, source: ImageSource, folder: str) -> ImageFile:
        data = self._images.read(source, folder)
        try:
            kind = self._images.header(replace(source, uri=None, data=data), folder).format.lower()
        except ImageUnreadable as error:
            raise ConfigError(f"an input image cannot be read any more: {error}") from error
        return ImageFile(data, ".jpg" if kind == "jpeg" else f".{kind}")
