"""Builds a manifest: finds the source, makes records of it, and writes those that are left to Parquet files."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from dimoo_core.errors import ConfigError
from jobs.manifest_files import ManifestFiles
from jobs.manifest_source_format import Format, SourceFile, read_source, source_types
from jobs.word_filter import WordFilter
from manifests.builder.record import Record
from manifests.builder.row_table import BuildCounts, RowTables, row_digest
from manifests.builder.seen import MAX_DISTANCE, Seen
from manifests.builder.selection import check_splits, repeated, sample_count, sample_share, split_of
from manifests.builder.template import PromptTemplate, combinations
from manifests.column import COLUMNS, IMAGE, IMAGES, is_text
from manifests.errors import ManifestError, ManifestRowError
from manifests.image_source import image_source
from manifests.row import RowDefaults
from pipeline.errors import StoreError
from pipeline.fetch import ImageFetcher
from pipeline.hook import HookFailed, call_hook, load_hook
from pipeline.image_decoder import ImageUnreadable
from pipeline.object_reader import ObjectReader
from pipeline.source_policy import SourcePolicy
from pipeline.uri import folder_of, is_relative, parse_uri

Dedupe = Literal["none", "exact", "images"]

TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What to build a manifest from, and how; the options of ``dimoo-batch manifest build``."""

    inputs: tuple[str, ...]
    target: str
    format: Format
    task: str | None = None
    prompt: str | None = None
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    images: str | None = None
    embed: bool = False
    dedupe: Dedupe = "none"
    distance: int = 4
    sample: float | None = None
    limit: int | None = None
    repeat: int = 1
    splits: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    skips_invalid: bool = False
    checks_images: bool = False
    overwrites: bool = False
    hooks: tuple[str, ...] = ()
    blocklist: Path | None = None
    min_words: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What was built."""

    manifest: str
    rows: int
    invalid: int
    duplicates: int
    repeats: int
    filtered: int
    tasks: Mapping[str, int]
    files: tuple[str, ...]
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """For standard output."""
        return asdict(self)


def build_manifest(request: BuildRequest) -> BuildReport:
    """Build a manifest. Memory does not grow with the source.

    Raises:
        ConfigError: An option is wrong, or the target is taken.
        ManifestError: The source is wrong, or a row is and was not to be skipped.
        StoreError: The source or the target cannot be reached.
    """
    _check(request)
    counts = BuildCounts()
    defaults = RowDefaults(task=request.task)
    with ExitStack() as stack:
        objects = ObjectReader()
        stack.callback(objects.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dimoo-build-")))
        files = stack.enter_context(
            ManifestFiles(request.target, folder, by_split=bool(request.splits), overwrites=request.overwrites)
        )
        sources = list(read_source(request.inputs, request.format, objects)) if request.inputs else []
        types = source_types(sources, objects) | {name: _arrow_type(kind) for name, kind in request.types.items()}
        types = {request.rename.get(name, name): kind for name, kind in types.items()}
        has_images = "image" in types and not is_text(types["image"])
        embeds = request.embed or has_images or any(source.embeds_images for source in sources)
        fetcher = ImageFetcher(SourcePolicy(local_files=True))  # who builds a manifest names the images
        stack.callback(fetcher.close)
        builder = _Builder(request, objects, fetcher, files.folder_uri, counts, embeds)
        records = builder.records(sources, stack.enter_context(Seen(folder, max_distance=request.distance)))
        tables = RowTables(defaults, types, counts, embeds_images=embeds, skips_invalid=request.skips_invalid)
        for table in tables.gather(records):
            files.add(table)
        if not counts.num_rows:
            raise ManifestError(f"no rows are left for {request.target}: {_why_none(counts)}")
        written = files.finish()
    return BuildReport(
        manifest=request.target,
        rows=counts.num_rows,
        invalid=counts.num_invalid,
        duplicates=counts.num_duplicates,
        repeats=builder.num_repeats,
        filtered=builder.num_filtered,
        tasks=counts.num_of_task,
        files=written,
        reasons=tuple(counts.reasons),
    )


class _Builder:
    """The way of a record from its source into the manifest."""

    def __init__(
        self,
        request: BuildRequest,
        objects: ObjectReader,
        fetcher: ImageFetcher,
        target_folder: str,
        counts: BuildCounts,
        embeds: bool,
    ) -> None:
        self._request = request
        self._objects = objects
        self._fetcher = fetcher
        self._target_folder = target_folder
        self._counts = counts
        self._embeds = embeds
        self._template = PromptTemplate(request.prompt) if request.prompt is not None else None
        self._prefers = {"skips_invalid": request.skips_invalid}
        self._hooks = [(name, load_hook(name)) for name in request.hooks]
        self._words = WordFilter(request.blocklist, request.min_words)
        self._filters_words = request.blocklist is not None or request.min_words > 0
        self.num_filtered = 0
        self.num_repeats = 0

    def records(self, sources: Iterable[SourceFile], seen: Seen) -> Iterator[Record]:
        """Every record that is left, in the order of the sources."""
        request = self._request
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
                self.num_repeats += not seen.add_digest(row_digest(record))
            if request.splits:
                split = split_of(record, request.splits, request.seed)
                record = record.with_cells({**record.cells, "split": split})
            if request.repeat > 1:
                yield from repeated(record, request.repeat)
            else:
                yield record

    def _expanded(self, sources: Iterable[SourceFile]) -> Iterator[Record]:
        request = self._request
        source_records = (record for source in sources for record in source.records(self._objects))
        for record in source_records if request.inputs else iter([Record({}, "--var")]):
            cells = {request.rename.get(name, name): value for name, value in record.cells.items()}
            cells |= request.constants
            if request.task is not None:
                cells["task"] = request.task
            for combined in combinations(record.with_cells(cells), request.variables):
                yield from self._completed(combined)

    def _completed(self, record: Record) -> Iterator[Record]:
        """The record with its prompt filled in and its images named as seen from the manifest, or nothing."""
        cells = dict(record.cells)
        try:
            if self._template is not None:
                cells["prompt"] = self._template.fill(cells)
            for column in cells.keys() & COLUMNS.keys():
                if COLUMNS[column].kind in (IMAGE, IMAGES):
                    cells[column] = self._image_cell(cells[column], record)
                    if self._request.checks_images:
                        self._check_images(cells[column])
        except (ManifestRowError, StoreError, ImageUnreadable) as error:
            self._counts.refuse(f"{record.where}: {error}", **self._prefers)
            return
        hooked = self._hooked(cells, record.where)
        if hooked is None or (self._filters_words and self._words.refuses(str(hooked.get("prompt") or ""))):
            self.num_filtered += 1
        else:
            yield record.with_cells(hooked)

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
        if self._embeds:
            return {"bytes": self._objects.read(uri), "path": uri.rpartition("/")[2]}
        prefix = self._target_folder.rstrip("/") + "/"
        return uri.removeprefix(prefix) if uri.startswith(prefix) else uri

    def _check_images(self, cell: object) -> None:
        for each in cell if isinstance(cell, list) else [cell]:
            source = image_source(each)
            if source is not None:
                self._fetcher.fetch(source, self._target_folder)

    def _absolute(self, uri: str, record: Record) -> str:
        """The URI of an image as anybody can read it, who does not know the source."""
        if is_relative(uri):
            folder = self._request.images or (folder_of(record.source_uri) if record.source_uri else ".")
            uri = f"{folder.rstrip('/')}/{uri}"
        try:
            location = parse_uri(uri)
        except ConfigError as error:
            raise ManifestRowError(str(error)) from error
        return uri if location.scheme == "s3" else str(Path(location.path).absolute())

    def _without_duplicates(self, records: Iterable[Record], seen: Seen) -> Iterator[Record]:
        for record in records:
            try:
                is_new = (
                    seen.add_digest(row_digest(record))
                    if self._request.dedupe == "exact"
                    else self._is_new_image(record, seen)
                )
            except (ManifestRowError, StoreError, ImageUnreadable) as error:
                self._counts.refuse(f"{record.where}: {error}", **self._prefers)
                continue
            if is_new:
                yield record
            else:
                self._counts.num_duplicates += 1

    def _is_new_image(self, record: Record, seen: Seen) -> bool:
        from manifests.builder.image_hash import image_hash

        source = image_source(record.cells.get("image"))
        if source is None:
            raise ManifestRowError("image is null, --dedupe images needs one in each row")
        return seen.add_image(image_hash(self._fetcher.fetch(source, self._target_folder)))


def _check(request: BuildRequest) -> None:
    if request.splits:
        check_splits(request.splits)
    if not request.inputs and not (request.prompt and request.variables):
        raise ConfigError("there is nothing to build from: give inputs, or --prompt with a template and --var")
    if not 0 <= request.distance <= MAX_DISTANCE:
        raise ConfigError(f"--distance must be from 0 to {MAX_DISTANCE} bits, got {request.distance}")
    if request.sample is not None and (request.sample <= 0 or (request.sample >= 1 and request.sample % 1)):
        raise ConfigError(f"--sample must be a share below 1 or a whole number of rows, got {request.sample:g}")
    if request.repeat < 1:
        raise ConfigError(f"--repeat must be at least 1, got {request.repeat}")


def _arrow_type(kind: str) -> pa.DataType:
    if kind not in TYPES:
        raise ConfigError(f"--type must be one of {', '.join(TYPES)}, got {kind!r}")
    return TYPES[kind]


def _why_none(counts: BuildCounts) -> str:
    if counts.num_invalid:
        return f"{counts.num_invalid} are invalid, such as {counts.reasons[0]}"
    return "the source is empty, or all were left out by sampling"
