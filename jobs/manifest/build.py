"""Builds a manifest: finds the source, makes records of it, and writes those that are left to Parquet files."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pyarrow as pa

from dimoo_core.errors import ConfigError
from jobs.manifest.dedupe import Seen
from jobs.manifest.files import ManifestFiles
from jobs.manifest.request import BuildReport, BuildRequest
from jobs.manifest.sources import read_source, source_types
from jobs.manifest.table import BuildCounts, RowTables
from jobs.manifest.transform import RecordBuilder
from manifests.columns import is_text
from manifests.errors import ManifestError
from manifests.row.settings import RowDefaults
from pipeline.images.inputs import ImageFetcher
from pipeline.protocol.source_policy import SourcePolicy
from pipeline.storage.reader import ObjectReader

TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}


def build_manifest(request: BuildRequest) -> BuildReport:
    """Build a manifest. Memory does not grow with the source.

    Raises:
        ConfigError: An option is wrong, or the target is taken.
        ManifestError: The source is wrong, or a row is and was not to be skipped.
        StoreError: The source or the target cannot be reached.
    """
    request.check()
    counts = BuildCounts(request.skips_invalid)
    defaults = RowDefaults(task=request.task)
    with ExitStack() as stack:
        objects = stack.enter_context(closing(ObjectReader()))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dimoo-build-")))
        files = ManifestFiles(request.target, folder, by_split=bool(request.splits), overwrites=request.overwrites)
        stack.enter_context(closing(files))
        sources = list(read_source(request.inputs, request.format, objects)) if request.inputs else []
        types = source_types(sources, objects) | {name: _arrow_type(kind) for name, kind in request.types.items()}
        types = {request.rename.get(name, name): kind for name, kind in types.items()}
        has_images = "image" in types and not is_text(types["image"])
        embeds = request.embed or has_images or any(source.embeds_images for source in sources)
        own_images = SourcePolicy(local_files=True)  # who builds a manifest names the images
        fetcher = stack.enter_context(closing(ImageFetcher(own_images)))
        builder = RecordBuilder(
            request=request,
            objects=objects,
            fetcher=fetcher,
            target_folder=files.folder_uri,
            counts=counts,
            embeds_images=embeds,
        )
        seen = stack.enter_context(closing(Seen(folder, max_distance=request.distance)))
        tables = RowTables(defaults=defaults, types=types, embeds_images=embeds, counts=counts)
        for table in tables.gather(builder.records(sources, seen)):
            files.add(table)
        if not counts.num_rows:
            raise ManifestError(f"no rows to write to {request.target}: {_why_none(counts)}")
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


def _arrow_type(kind: str) -> pa.DataType:
    if kind not in TYPES:
        raise ConfigError(f"--type must be one of {', '.join(TYPES)}, got {kind!r}")
    return TYPES[kind]


def _why_none(counts: BuildCounts) -> str:
    if counts.num_invalid:
        return f"{counts.num_invalid} are invalid, the first: {counts.reasons[0]}"
    return "the source is empty, or all were left out by sampling"
