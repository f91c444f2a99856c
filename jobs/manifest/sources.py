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

_OF_SUFFIX = {
    "csv": "csv", "tsv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "txt": "txt", "tar": "webdataset",
    "parquet": "parquet",
}  # fmt: skip
_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson"),
    "txt": (".txt",),
    "webdataset": (".tar",),
    "parquet": (".parquet",),
    "geneval": (".jsonl",),
    "dpg-bench": (".txt",),
    "oneig-en": (".csv",),
    "tiif": (".jsonl",),
    "imgedit": (".json",),
    "gedit": (".parquet",),
}
"""What is read of a folder, by format."""

_READERS: Mapping[str, Callable[[str, OpenFile], Iterator[Record]]] = {
    "csv": read_csv,
    "jsonl": read_json_lines,
    "txt": read_prompts,
    "webdataset": read_tar,
    "parquet": read_parquet,
    "geneval": benchmark.read_geneval,
    "oneig-en": benchmark.read_oneig,
    "tiif": benchmark.read_tiif,
    "imgedit": benchmark.read_imgedit,
    "gedit": benchmark.read_gedit,
}


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
        if self.format == "dpg-bench":
            is_table = self.uri.lower().endswith(".csv")
            return (benchmark.read_dpg_csv if is_table else benchmark.read_dpg_prompt)(self.uri, objects.open)
        return _READERS[self.format](self.uri, objects.open)


def read_source(inputs: Iterable[str], given: str, objects: ObjectReader) -> Iterator[SourceFile]:
    """The files of a source; a folder or prefix stands for the files of its format below it, by name."""
    if given not in FORMATS:
        raise ConfigError(f"--from must be one of {', '.join(FORMATS)}, got {given!r}")
    for uri in inputs:
        suffix = uri.rpartition(".")[2].lower() if "." in uri.rpartition("/")[2] else ""
        known = _OF_SUFFIX.get(suffix)
        if known is not None or suffix == "json":
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
    keys = sorted(key for key in store.list() if key.lower().endswith(_SUFFIXES[found]))
    if not keys:
        raise ManifestError(f"nothing to read at {uri}: no file that ends with {' or '.join(_SUFFIXES[found])}")
    for key in keys:
        yield SourceFile(store.uri_of(key), found)


def _told_format(store: Store) -> str:
    """The format of the first file that has a known one."""
    for key in store.list():
        if is_image_name(key):
            return "images"
        if known := _OF_SUFFIX.get(key.rpartition(".")[2].lower()):
            return known
    raise ManifestError(f"nothing to read at {store.uri}: no file with a known extension; give the format with --from")


def _in_order(store: Store, with_sizes: bool) -> Iterable[tuple[str, int | None]]:
    """Keys by name, with sizes if asked for. S3 lists them so; of a disk they are sorted here."""
    if parse_uri(store.uri).scheme == "s3":
        return store.list_with_sizes()
    return ((key, store.size(key) if with_sizes else None) for key in sorted(store.list()))
