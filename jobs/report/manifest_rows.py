"""What only the manifest knows of a row: its input image, and the prompt of a row that failed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dimoo_core.errors import ConfigError, DimooError
from manifests.errors import ManifestRowError
from manifests.files.reader import SegmentReader
from manifests.row.images import ImageSource, image_source, image_sources
from pipeline.manifest import ManifestSource, open_unchecked_manifest
from pipeline.storage.reader import ObjectReader
from pipeline.storage.uri import folder_of

_SEGMENT_ROWS = 64


@dataclass(frozen=True, slots=True)
class ManifestCell:
    """What the manifest says of one row; ``image`` is the first of several."""

    row: int
    task: str | None
    prompt: str | None
    image: ImageSource | None
    folder_uri: str


def find_manifest(
    given: str | None, description: Mapping[str, Any], note: Callable[[str], None]
) -> ManifestSource | None:
    """The manifest of a run; None, and a line that says why, if it is not where the run found it.

    Args:
        given: Where it is now; None looks where ``run.json`` says.
        description: ``run.json``.
        note: Told why there are no input images.

    Raises:
        ConfigError: The one given is not the manifest of this run.
        ManifestError, StoreError: The one given cannot be read.
    """
    uri = given or str(description.get("manifest", ""))
    try:
        source = open_unchecked_manifest(uri)
        found, wanted = source.fingerprint, description.get("results", {}).get("manifest_fingerprint")
        if found != wanted:
            raise ConfigError(f"{uri} is not the manifest of this run: its fingerprint is {found}, not {wanted}")
    except DimooError as error:
        if given is not None:
            raise
        note(f"without input images: {error}; --manifest says where the manifest is")
        return None
    return source


def read_cells(source: ManifestSource, wanted: set[int]) -> Iterator[ManifestCell]:
    """Cells of the wanted rows, in row order; a cell that is wrong is left out."""
    objects = ObjectReader()
    try:
        with SegmentReader(objects.open) as reader:
            for segment in source.plan(segment_rows=_SEGMENT_ROWS, limit=None):
                rows = [row for row in range(segment.first_row, segment.first_row + segment.num_rows) if row in wanted]
                if not rows:
                    continue
                table = reader.read(segment)
                table = table.select(
                    [name for name in ("task", "prompt", "image", "images") if name in table.column_names]
                )
                for row in rows:
                    (record,) = table.slice(row - segment.first_row, 1).to_pylist()
                    yield _cell(row, record, folder_of(segment.file_uri))
    finally:
        objects.close()


def _cell(row: int, record: Mapping[str, Any], folder_uri: str) -> ManifestCell:
    image = None
    with suppress(ManifestRowError):  # that row has failed, for this very reason
        image = image_source(record.get("image")) or next(iter(image_sources(record.get("images"))), None)
    return ManifestCell(row, _text(record.get("task")), _text(record.get("prompt")), image, folder_uri)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
