"""Which files a source has, in what format they are, and how each is read."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa

from dimoo_core.errors import ConfigError
from jobs.manifest import benchmarks as benchmark
from jobs.manifest.readers import (
    is_image_name,
    parquet_types,
    read_csv,
    read_image_names,
    read_json_lines,
    read_parquet,
    read_prompts,
    read_tar,
)
from jobs.manifest.record import OpenFile, Record
from manifests.errors import ManifestError
from pipeline.storage.base import Store
from pipeline.storage.reader import ObjectReader, open_store
from pipeline.storage.uri import parse_uri

Format = Literal[
    "auto", "csv", "jsonl", "txt", "images", "webdataset", "parquet",
    "geneval", "dpg-bench", "oneig-en", "tiif", "imgedit", "gedit",
]  # fmt: skip
FORMATS: tuple[str, ...] = get_args(Format)

_READERS: Mapping[str, tuple[Callable[[str, OpenFile], Iterator[Record]], tuple[str, ...]]] = {
    "csv": (read_csv, (".csv", ".tsv")),
    "jsonl": (read_json_lines, (".jsonl", ".ndjson")),
    "txt": (read_prompts, (".txt",)),
    "webdataset": (read_tar, (".tar",)),
    "parquet": (read_parquet, (".parquet",)),
    "geneval": (benchmark.read_geneval, (".jsonl",)),
    "dpg-bench": (benchmark.read_dpg, (".txt",)),
    "oneig-en": (benchmark.read_oneig, (".csv",)),
    "tiif": (benchmark.read_tiif, (".jsonl",)),
    "imgedit": (benchmark.read_imgedit, (".json",)),
    "gedit": (benchmark.read_gedit, (".parquet",)),
}
"""How a file of a format is read, and the endings of those that are read of a folder."""

_TOLD_BY_NAME = ("csv", "jsonl", "txt", "webdataset", "parquet")
_OF_SUFFIX = {suffix: name for name in _TOLD_BY_NAME for suffix in _READERS[name][1]}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source, or one folder of images."""

    uri: str
    format: str

    @property
    def embeds_images(self) -> bool:
        """Whether its records hold images, not names of them."""
        return self.format in ("webdataset", "gedit")

    def records(self, objects: ObjectReader, *, with_sizes: bool = False) -> Iterator[Record]:
        """Its records, in order; ``with_sizes``: those of a folder of images have the size of each file."""
        if self.format == "images":
            store = open_store(self.uri)
            return read_image_names((store.uri_of(key), size) for key, size in _in_order(store, with_sizes))
        reader, _ = _READERS[self.format]
        return reader(self.uri, objects.open)


def read_source(inputs: Iterable[str], given: str, objects: ObjectReader) -> Iterator[SourceFile]:
    """The files of a source; a folder or prefix stands for the files of its format below it, by name."""
    if given not in FORMATS:
        raise ConfigError(f"--from must be one of {', '.join(FORMATS)}, got {given!r}")
    for uri in inputs:
        suffix = _suffix(uri)
        known = _OF_SUFFIX.get(suffix)
        if known is not None or suffix == ".json":
            store, key = objects.locate(uri)
            if store.size(key) is not None:
                if known is None and given == "auto":
                    raise ConfigError(f"{uri}: name the format of a .json file, such as --from imgedit")
                yield SourceFile(uri, str(known) if given == "auto" else given)
                continue
        yield from _of_folder(uri, given)


def source_types(sources: Iterable[SourceFile], objects: ObjectReader) -> dict[str, pa.DataType]:
    """Types of the columns of a source, where its format has types."""
    types: dict[str, pa.DataType] = {}
    for source in sources:
        if source.format == "parquet":
            for name, kind in parquet_types(source.uri, objects.open).items():
                if types.setdefault(name, kind) != kind:
                    raise ManifestError(f"{source.uri}: column {name!r} has type {kind}, in another file {types[name]}")
        elif source.format == "csv":
            return {}
    return types


def _of_folder(uri: str, given: str) -> Iterator[SourceFile]:
    store = open_store(uri)
    found = given if given != "auto" else _told_format(store)
    if found == "images":
        yield SourceFile(uri, found)
        return
    _, suffixes = _READERS[found]
    keys = sorted(key for key in store.list() if key.lower().endswith(suffixes))
    if not keys:
        raise ManifestError(f"nothing to read at {uri}: no file that ends with {' or '.join(suffixes)}")
    for key in keys:
        yield SourceFile(store.uri_of(key), found)


def _told_format(store: Store) -> str:
    """The format of the first file that has a known one."""
    for key in store.list():
        if is_image_name(key):
            return "images"
        if known := _OF_SUFFIX.get(_suffix(key)):
            return known
    raise ManifestError(f"nothing to read at {store.uri}: no file with a known extension; give the format with --from")


def _suffix(uri: str) -> str:
    name = uri.rpartition("/")[2].lower()
    return name[name.rfind(".") :] if "." in name else ""


def _in_order(store: Store, with_sizes: bool) -> Iterable[tuple[str, int | None]]:
    """Keys by name, with sizes if asked for. S3 lists them so; of a disk they are sorted here."""
    if not parse_uri(store.uri).is_local:
        return store.list_with_sizes()
    return ((key, store.size(key) if with_sizes else None) for key in sorted(store.list()))
