"""The way of a record from its source into a manifest: filled in, named, filtered, without duplicates, selected.

Prompts may be templates, ``a {color} {animal}``, filled from a record's columns and from lists of values. Selection is
by sampling, splits, and repetition with other seeds.
"""

import difflib
import hashlib
import heapq
import itertools
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from dimoo_core.errors import ConfigError
from jobs.manifest.dedupe import Seen, image_hash
from jobs.manifest.record import Record
from jobs.manifest.request import BuildRequest
from jobs.manifest.sources import SourceFile
from jobs.manifest.table import BuildCounts
from jobs.text import WordFilter
from manifests.columns import COLUMNS, IMAGE, IMAGES
from manifests.errors import ManifestRowError
from manifests.row.content_id import content_id
from manifests.row.images import image_source
from pipeline.images.decoder import ImageUnreadable
from pipeline.images.inputs import ImageFetcher
from pipeline.rows.hooks import HookFailed, call_hook, load_hook
from pipeline.storage.errors import StoreError
from pipeline.storage.reader import ObjectReader
from pipeline.storage.uri import folder_of, is_relative, parse_uri, resolve_uri


class PromptTemplate:
    """A text with names in braces; ``{{`` and ``}}`` stand for braces."""

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ConfigError(f"the template {text!r} is not valid: {error}") from error
        self.names = tuple(dict.fromkeys(name for _, name, _, _ in parts if name is not None))
        plain = all(name.isidentifier() for name in self.names)
        if not plain or any(form or conversion for _, _, form, conversion in parts):
            raise ConfigError(f"the template {text!r} must have only column names in braces, such as {{color}}")

    def fill(self, values: Mapping[str, object]) -> str:
        """The text with its names replaced."""
        for name in self.names:
            if values.get(name) is None:
                there = [key for key, value in values.items() if value is not None]
                near = difflib.get_close_matches(name, there, n=1)
                hint = f": did you mean {near[0]!r}?" if near else ""
                known = ", ".join(there) or "nothing"
                raise ManifestRowError(f"the template needs {name!r}, which has no value; known: {known}{hint}")
        return self._text.format_map({name: values[name] for name in self.names})


_UNIT = 2.0**-64


def chance(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on the two alone."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") * _UNIT


def sample_share(records: Iterable[Record], share: float, seed: int) -> Iterator[Record]:
    """About this share of the records, each by a chance of its own, in their order."""
    return (record for number, record in enumerate(records) if chance(seed, f"sample {number}") < share)


def sample_count(records: Iterable[Record], count: int, seed: int) -> Iterator[Record]:
    """Exactly ``count`` of the records, each set of them as likely, in their order; all if there are no more.

    Memory grows with ``count``, not with the records.
    """
    kept = heapq.nsmallest(count, enumerate(records), key=lambda entry: chance(seed, f"sample {entry[0]}"))
    for _, record in sorted(kept, key=itemgetter(0)):
        yield record


def repeated(record: Record, count: int) -> Iterator[Record]:
    """The record ``count`` times, with the columns ``sample`` (from 0) and ``seed``, and an id of its own each.

    The first has the record's seed, or 0; each that follows has one more.
    """
    first = record.cells.get("seed") or 0
    row_id = record.cells.get("id") or content_id(record.cells)
    for sample in range(count):
        yield record.with_cells({**record.cells, "id": f"{row_id}-{sample}", "seed": first + sample, "sample": sample})


def split_of(record: Record, splits: Mapping[str, float], seed: int) -> str:
    """The split of a record: by chance, but the same for equal content, so that no row is in two."""
    point = chance(seed, f"split {content_id({**record.cells, 'seed': None})}")
    for name, share in splits.items():
        point -= share
        if point < 0:
            return name
    return next(reversed(dict(splits)))


@dataclass(kw_only=True)
class RecordBuilder:
    """The way of a record from its source into the manifest."""

    request: BuildRequest
    objects: ObjectReader
    fetcher: ImageFetcher
    target_folder: str
    counts: BuildCounts
    embeds_images: bool
    num_filtered: int = 0
    num_repeats: int = 0

    def __post_init__(self) -> None:
        request = self.request
        self._template = PromptTemplate(request.prompt) if request.prompt is not None else None
        self._hooks = [(name, load_hook(name)) for name in request.hooks]
        self._words = WordFilter(request.blocklist, request.min_words)

    def records(self, sources: Iterable[SourceFile], seen: Seen) -> Iterator[Record]:
        """Every record that is left, in the order of the sources."""
        request = self.request
        records: Iterator[Record] = self._expanded(sources)
        if request.dedupe != "none":
            records = self._without_duplicates(records, seen)
        if request.sample is not None and request.sample < 1:
            records = sample_share(records, request.sample, request.seed)
        elif request.sample is not None:
            records = sample_count(records, int(request.sample), request.seed)
        for number, record in enumerate(records):
            if number == request.limit:
                return
            if request.dedupe != "exact" and record.cells.get("id") is None:
                self.num_repeats += not seen.add_digest(content_id(record.cells))
            if request.splits:
                split = split_of(record, request.splits, request.seed)
                record = record.with_cells({**record.cells, "split": split})
            if request.repeat > 1:
                yield from repeated(record, request.repeat)
            else:
                yield record

    def _expanded(self, sources: Iterable[SourceFile]) -> Iterator[Record]:
        request = self.request
        with_sizes = request.dedupe == "exact"
        source_records = (
            record for source in sources for record in source.records(self.objects, with_sizes=with_sizes)
        )
        for record in source_records if request.inputs else iter([Record({}, "--var")]):
            cells = {request.rename.get(name, name): value for name, value in record.cells.items()}
            cells |= request.constants
            if request.task is not None:
                cells["task"] = request.task
            for values in itertools.product(*request.variables.values()):
                combined = dict(zip(request.variables, values, strict=True))
                yield from self._completed(record.with_cells({**cells, **combined}))

    def _completed(self, record: Record) -> Iterator[Record]:
        """The record with its prompt filled in and its images named as seen from the manifest, or nothing."""
        cells = dict(record.cells)
        try:
            if self._template is not None:
                cells["prompt"] = self._template.fill(cells)
            for column in cells.keys() & COLUMNS.keys():
                if COLUMNS[column].kind in (IMAGE, IMAGES):
                    cells[column] = self._image_cell(cells[column], record)
                    if self.request.checks_images:
                        self._check_images(cells[column])
        except (ManifestRowError, StoreError, ImageUnreadable) as error:
            has_names = self._template is None or cells.keys() >= set(self._template.names)
            self.counts.refuse(f"{record.where}: {error}", is_row_alone=has_names)
            return
        hooked = self._hooked(cells, record.where)
        if hooked is None or self._words.refuses(str(hooked.get("prompt") or "")):
            self.num_filtered += 1
        else:
            is_same_image = hooked.get("image") == cells.get("image")
            yield replace(record, cells=hooked, image_bytes=record.image_bytes if is_same_image else None)

    def _hooked(self, cells: dict[str, Any], where: str) -> dict[str, Any] | None:
        for name, hook in self._hooks:
            changed = call_hook(name, hook, cells, where)
            if changed is None:
                return None
            if not isinstance(changed, dict):
                raise HookFailed(f"{where}: hook {name!r} must return a dict or None, got {type(changed).__name__}")
            cells = changed
        return cells

    def _image_cell(self, cell: object, record: Record) -> object:
        if isinstance(cell, list):
            return [self._image_cell(each, record) for each in cell]
        if not isinstance(cell, str):
            return cell
        uri = self._absolute(cell, record)
        if self.embeds_images:
            return {"bytes": self.objects.read(uri), "path": uri.rpartition("/")[2]}
        prefix = self.target_folder.rstrip("/") + "/"
        return uri.removeprefix(prefix) if uri.startswith(prefix) else uri

    def _check_images(self, cell: object) -> None:
        for each in cell if isinstance(cell, list) else [cell]:
            source = image_source(each)
            if source is not None:
                self.fetcher.fetch(source, self.target_folder)

    def _absolute(self, uri: str, record: Record) -> str:
        """The URI of an image as anybody can read it, who does not know the source."""
        if is_relative(uri):
            folder = self.request.images or (folder_of(record.source_uri) if record.source_uri else ".")
            uri = resolve_uri(folder, uri)
        try:
            location = parse_uri(uri)
        except ConfigError as error:
            raise ManifestRowError(str(error)) from error
        return str(Path(location.path).absolute()) if location.is_local else uri

    def _without_duplicates(self, records: Iterable[Record], seen: Seen) -> Iterator[Record]:
        for record in records:
            try:
                is_new = self._is_new(record, seen)
            except (ManifestRowError, StoreError, ImageUnreadable) as error:
                has_image = self.request.dedupe == "exact" or "image" in record.cells
                self.counts.refuse(f"{record.where}: {error}", is_row_alone=has_image)
                continue
            if is_new:
                yield record
            else:
                self.counts.num_duplicates += 1

    def _is_new(self, record: Record, seen: Seen) -> bool:
        if self.request.dedupe == "exact":
            return seen.add_digest(self._digest(record, seen))
        source = image_source(record.cells.get("image"))
        if source is None:
            raise ManifestRowError("image is null, --dedupe images needs one in each row")
        return seen.add_image(image_hash(self.fetcher.fetch(source, self.target_folder)))

    def _digest(self, record: Record, seen: Seen) -> str:
        """The same for rows that ask for the same thing; equal files of a folder of images are the same image."""
        image = record.cells.get("image")
        if record.image_bytes is None or not isinstance(image, str):
            return content_id(record.cells)
        uri = resolve_uri(self.target_folder, image)
        first = seen.first_with_bytes(uri, record.image_bytes, self._file_digest)
        return content_id({**record.cells, "image": first})

    def _file_digest(self, uri: str) -> str:
        with self.objects.open(uri) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
