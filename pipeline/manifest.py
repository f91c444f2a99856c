"""A manifest as found in a store: its files, checked, and the plan of its segments."""

import shlex
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from manifests.errors import ManifestError
from manifests.files.duplicates import find_duplicate_ids
from manifests.files.plan import ManifestFile, ShardPlan, fingerprint, plan_shards
from manifests.files.reader import SegmentReader, inspect_file, read_ids
from manifests.row.settings import RowDefaults
from manifests.schema import check_schemas
from pipeline.storage.reader import ObjectReader, open_store

_INSPECT_THREADS = 16
_BUILDABLE = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt", ".tar")
"""Files that are no manifest and that one is built from."""

SHARD_SEGMENTS = 128
"""Segments of one shard: how many files are in one folder of images, more or less."""


@contextmanager
def segment_reader() -> Iterator[SegmentReader]:
    """Reads the rows of segments from wherever their files are, until the end of the block."""
    with closing(ObjectReader()) as objects, SegmentReader(objects.open) as reader:
        yield reader


@dataclass(frozen=True, slots=True)
class ManifestSource:
    """The files of one manifest in the order of their names, with every footer read and every schema checked."""

    uri: str
    files: tuple[ManifestFile, ...]
    passing_columns: tuple[str, ...] = ()  # those that reach the output unchanged

    @property
    def num_rows(self) -> int:
        """Rows of all files."""
        return sum(file.num_rows for file in self.files)

    def num_rows_of(self, limit: int | None) -> int:
        """Rows of a run of at most so many."""
        return self.num_rows if limit is None else min(limit, self.num_rows)

    @property
    def fingerprint(self) -> str:
        """Changes with the content of the files."""
        return fingerprint(self.files)

    def plan(self, *, segment_rows: int, limit: int | None) -> ShardPlan:
        """How the rows are cut into segments."""
        return plan_shards(self.files, shard_rows=segment_rows * SHARD_SEGMENTS, segment_rows=segment_rows, limit=limit)

    def repeated_ids(self) -> dict[int, int]:
        """Rows whose explicit id an earlier row has, with that row; reads the id column only."""
        objects = ObjectReader()
        with tempfile.TemporaryDirectory(prefix="dimoo-ids-") as folder:
            return find_duplicate_ids(read_ids(self.files, objects.open), spill_dir=Path(folder))


def open_manifest(uri: str, *, defaults: RowDefaults, passthrough: Collection[str] = ()) -> ManifestSource:
    """Find and check the Parquet files at ``uri``: one file, or every ``*.parquet`` below a folder or prefix.

    Raises:
        ConfigError: The URI cannot be opened at all.
        ManifestError: There is no Parquet file, or a file or its columns are wrong.
        StoreError: The store cannot be read.
    """
    inspected = _inspected(uri)
    passing = check_schemas(
        ((file.uri, schema) for file, schema in inspected), defaults=defaults, passthrough=passthrough
    )
    return ManifestSource(uri, tuple(file for file, _ in inspected), tuple(passing.names))


def open_unchecked_manifest(uri: str) -> ManifestSource:
    """A manifest that a run has accepted before: its columns are taken as they are."""
    return ManifestSource(uri, tuple(file for file, _ in _inspected(uri)))


def _inspected(uri: str) -> list[tuple[ManifestFile, pa.Schema]]:
    objects = ObjectReader()
    uris = manifest_file_uris(uri)

    with ThreadPoolExecutor(_INSPECT_THREADS) as pool:
        return list(pool.map(lambda file_uri: inspect_file(file_uri, objects.open), uris))


def manifest_file_uris(uri: str) -> list[str]:
    """The Parquet files at ``uri``, by name."""
    if uri.endswith(".parquet"):
        store, key = ObjectReader().locate(uri)
        if store.size(key) is not None:
            return [uri]
    store = open_store(uri)
    found = sorted(key for key in store.list() if key.endswith(".parquet"))
    if not found:
        build = ""
        if any(True for _ in store.list()) or _is_buildable_file(uri):
            build = f"; build one: dimoo-batch manifest build {shlex.quote(uri)} --task TASK --to manifest.parquet"
        raise ManifestError(f"no manifest at {uri}: neither a Parquet file nor a folder that holds one{build}")
    return [store.uri_of(key) for key in found]


def _is_buildable_file(uri: str) -> bool:
    if not uri.lower().endswith(_BUILDABLE):
        return False
    store, key = ObjectReader().locate(uri)
    return store.size(key) is not None
