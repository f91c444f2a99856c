"""Reads every row of a manifest as a run would, and tells which would fail and why."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial

from jobs.spec import JobSpec
from manifests.reader import SegmentReader
from manifests.row import Row, RowDefaults, RowFailure, parse_rows
from pipeline.fetch import ImageFetcher
from pipeline.image_decoder import ImageUnreadable
from pipeline.manifest_source import ManifestSource, open_manifest
from pipeline.object_reader import ObjectReader
from pipeline.ordered_map import ordered_map
from pipeline.source_policy import SourcePolicy
from pipeline.store_errors import StoreError
from pipeline.uri import folder_of

_SEGMENT_ROWS = 4096
_THREADS = 16

Item = Row | RowFailure


@dataclass(slots=True)
class ManifestTotals:
    """Rows by what would become of them."""

    rows: int = 0
    valid: int = 0
    invalid: int = 0
    tasks: dict[str, int] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        """Count a row in."""
        self.rows += 1
        if isinstance(item, Row):
            self.valid += 1
            self.tasks[item.task] = self.tasks.get(item.task, 0) + 1
        else:
            self.invalid += 1

    def to_json(self) -> dict[str, object]:
        """For programs."""
        return asdict(self)


def validate_manifest(
    spec: JobSpec, defaults: RowDefaults, tell: Callable[[RowFailure], None], *, reads_images: bool
) -> ManifestTotals:
    """Check a manifest's columns, ids and rows with the parsing of a run.

    Args:
        spec: What the run would be.
        defaults: Of its rows.
        tell: Told of each row that would fail, in order.
        reads_images: Whether to fetch and decode each input image too.

    Raises:
        ManifestError: The files or their columns are wrong: no row would run.
        StoreError: The manifest cannot be read.
    """
    source = open_manifest(spec.manifest, defaults=defaults, passthrough=spec.passthrough)
    totals = ManifestTotals()
    for item in _items(source, defaults, spec.limit, spec.sources.policy() if reads_images else None):
        totals.add(item)
        if isinstance(item, RowFailure):
            tell(item)
    return totals


def manifest_rows(source: ManifestSource, defaults: RowDefaults, limit: int | None) -> Iterator[tuple[Item, str]]:
    """Every row as a worker gets it, repeated ids refused, with the folder that its relative images start at."""
    repeats = source.repeated_ids()
    objects = ObjectReader()
    with SegmentReader(objects.open) as reader:
        for segment in source.plan(segment_rows=_SEGMENT_ROWS, limit=limit):
            folder = folder_of(segment.file_uri)
            for item in parse_rows(reader.read(segment), segment.first_row, defaults):
                yield _without_repeated_id(item, repeats), folder
    objects.close()


def _without_repeated_id(item: Item, repeats: Mapping[int, int]) -> Item:
    if not isinstance(item, Row) or (first := repeats.get(item.index)) is None:
        return item
    message = f"id {item.id!r} is that of row {first}: give each row its own id"
    return RowFailure(item.index, item.id, "manifest", "ManifestRowError", message)


def _items(
    source: ManifestSource, defaults: RowDefaults, limit: int | None, policy: SourcePolicy | None
) -> Iterator[Item]:
    """Every row, with its images read if there is a policy for that."""
    rows = manifest_rows(source, defaults, limit)
    if policy is None:
        yield from (item for item, _ in rows)
        return
    fetcher = ImageFetcher(policy)
    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from ordered_map(pool, partial(_with_images, fetcher), rows, window=2 * _THREADS)
    finally:
        fetcher.close()


def _with_images(fetcher: ImageFetcher, row: tuple[Item, str]) -> Item:
    """The row, or its failure if an image of it cannot be had."""
    item, folder = row
    if isinstance(item, Row):
        for source in (item.image, item.mask.image if item.mask else None):
            try:
                if source is not None:
                    fetcher.fetch(source, folder)
            except (StoreError, ImageUnreadable) as error:
                stage = "decode" if isinstance(error, ImageUnreadable) else "fetch"
                return RowFailure(item.index, item.id, stage, type(error).__name__, str(error))
    return item
