"""Shows a manifest, and reads every row of it as a run would to report which would fail and why."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jobs.spec.spec import JobSpec
from jobs.text import pluralize
from manifests.columns import COLUMNS
from manifests.errors import RowFailure
from manifests.files.plan import plan_shards
from manifests.files.reader import inspect_file
from manifests.row.parse import Row, parse_rows
from manifests.row.settings import RowDefaults
from pipeline.images.decoder import ImageUnreadable
from pipeline.images.inputs import ImageFetcher
from pipeline.manifest import ManifestSource, manifest_file_uris, open_manifest, segment_reader
from pipeline.ordered_map import thread_map
from pipeline.protocol.source_policy import SourcePolicy
from pipeline.storage.errors import StoreError
from pipeline.storage.reader import ObjectReader
from pipeline.storage.uri import folder_of

_MAX_CELL = 100


def shown_lines(uri: str, *, start: int, num_rows: int, as_json: bool) -> Iterator[str]:
    """Lines about a manifest: for people, or its rows alone as JSON."""
    with closing(ObjectReader()) as objects:
        inspected = [inspect_file(file_uri, objects.open) for file_uri in manifest_file_uris(uri)]
    files = [file for file, _ in inspected]
    total = sum(file.num_rows for file in files)
    if not as_json:
        num_bytes = sum(file.size_bytes for file in files)
        yield f"{uri}: {pluralize(total, 'row')} in {pluralize(len(files), 'file')}, {pluralize(num_bytes, 'byte')}"
        for field in inspected[0][1]:
            meaning = COLUMNS[field.name].meaning if field.name in COLUMNS else "passes through"
            yield f"  {field.name:<16} {field.type!s:<12} {meaning}"
    plan = plan_shards(files, shard_rows=1024, segment_rows=1024)
    with segment_reader() as reader:
        for segment in plan:
            first = max(start - segment.first_row, 0)
            last = min(start + num_rows - segment.first_row, segment.num_rows)
            if first >= last:
                continue
            for offset, cells in enumerate(reader.read(segment).slice(first, last - first).to_pylist()):
                row = segment.first_row + first + offset
                cells = {name: _plain(value) for name, value in cells.items() if value is not None}
                if as_json:
                    yield json.dumps({"row": row, **cells}, ensure_ascii=False, default=str)
                else:
                    yield f"row {row}"
                    yield from (f"  {name:<16} {_short(value)}" for name, value in cells.items())


def _plain(value: Any) -> Any:
    """A value without the bytes of images."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return value


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _MAX_CELL else f"{text[:_MAX_CELL]}…"


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


def validate_manifest(
    spec: JobSpec, defaults: RowDefaults, tell: Callable[[RowFailure], None], *, reads_images: bool
) -> ManifestTotals:
    """Check a manifest's columns, ids and rows with the parsing of a run.

    Args:
        tell: Called with each row that would fail, in order.
        reads_images: Whether to fetch and decode each input image too.

    Raises:
        ManifestError: The files or their columns are wrong: no row would run.
        StoreError: The manifest cannot be read.
    """
    source = open_manifest(spec.manifest, defaults=defaults, passthrough=spec.passthrough)
    totals = ManifestTotals()
    for item in _items(source, defaults, spec.limit, spec.sources if reads_images else None):
        totals.rows += 1
        if isinstance(item, Row):
            totals.valid += 1
            totals.tasks[item.task] = totals.tasks.get(item.task, 0) + 1
        else:
            totals.invalid += 1
            tell(item)
    return totals


def manifest_rows(source: ManifestSource, defaults: RowDefaults, limit: int | None) -> Iterator[tuple[Item, str]]:
    """Every row as a worker gets it, repeated ids refused, with the folder that its relative images start at."""
    repeats = source.repeated_ids()
    with segment_reader() as reader:
        for segment in source.plan(segment_rows=_SEGMENT_ROWS, limit=limit):
            folder = folder_of(segment.file_uri)
            for item in parse_rows(reader.read(segment), segment.first_row, defaults):
                yield _without_repeated_id(item, repeats), folder


def _without_repeated_id(item: Item, repeats: Mapping[int, int]) -> Item:
    if not isinstance(item, Row) or (first := repeats.get(item.index)) is None:
        return item
    message = f"id {item.id!r} is already the id of row {first}: give each row a unique id"
    return RowFailure(item.index, item.id, "manifest", "ManifestRowError", message)


def _items(
    source: ManifestSource, defaults: RowDefaults, limit: int | None, policy: SourcePolicy | None
) -> Iterator[Item]:
    """Every row, with its images read if there is a policy for that."""
    rows = manifest_rows(source, defaults, limit)
    if policy is None:
        yield from (item for item, _ in rows)
        return
    with closing(ImageFetcher(policy)) as fetcher:
        yield from thread_map(partial(_with_images, fetcher), rows, num_threads=_THREADS)


def _with_images(fetcher: ImageFetcher, row: tuple[Item, str]) -> Item:
    """The row, or its failure if an image of it cannot be had."""
    item, folder = row
    if isinstance(item, Row):
        for source in (*item.inputs, *((item.mask.image,) if item.mask and item.mask.image else ())):
            try:
                fetcher.fetch(source, folder)
            except (StoreError, ImageUnreadable) as error:
                stage = "decode" if isinstance(error, ImageUnreadable) else "fetch"
                return RowFailure(item.index, item.id, stage, type(error).__name__, str(error))
    return item
