"""Records from text files (CSV, TSV, JSON lines, prompts), Parquet files, folders of images and WebDataset archives."""

import csv
import json
import tarfile
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import pyarrow as pa

from jobs.manifest.record import OpenFile, Record, cell_from_text, open_text
from manifests.errors import ManifestError
from manifests.files.parquet import ParquetReader
from manifests.files.reader import inspect_file

IMAGE_SUFFIXES = frozenset({"png", "jpg", "jpeg", "webp", "avif", "gif", "tif", "tiff", "bmp", "jp2", "ppm", "pgm"})
"""Name endings that are taken for images."""


def is_image_name(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def read_image_names(files: Iterable[tuple[str, int | None]]) -> Iterator[Record]:
    """A record for each image of files with their sizes, where these are known; other files are left out."""
    for uri, size in files:
        if is_image_name(uri):
            yield Record({"image": uri}, uri, image_bytes=size)


def read_tar(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """The samples of a WebDataset archive: neighbouring files that share their name up to its first dot.

    The first image becomes ``image``, its bytes embedded; the keys of ``.json`` become columns; any other file becomes
    a column named after the rest of its name, such as ``txt`` or ``cls``, and wins over such a key. ``id`` is the
    shared name. Where a sample has an image, those that its json names are no input: ``image`` is kept as
    ``image_uri``, ``images`` as ``images_given``.
    """
    key, cells, named = "", dict[str, Any](), dict[str, Any]()
    for name, data in _files(uri, open_file):
        folder, slash, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        if folder + slash + stem != key:
            if cells or named:
                yield _sample(uri, key, cells, named)
            key, cells, named = folder + slash + stem, {}, {}
        where = f"{uri}, {name}"
        if is_image_name(extension):
            cells.setdefault("image", {"bytes": data, "path": base})
        elif extension.lower() == "json":
            named |= json_object(where, data)
        else:
            cells[extension.lower()] = _text(where, data)
    if cells or named:
        yield _sample(uri, key, cells, named)


def _sample(uri: str, key: str, cells: dict[str, Any], named: dict[str, Any]) -> Record:
    """The sample's record, from its files and, in ``named``, the keys of its json."""
    if "image" in cells:
        for name, kept in (("image", "image_uri"), ("images", "images_given")):
            if name in named:
                named.setdefault(kept, named.pop(name))
    return Record({"id": key, **named, **cells}, f"{uri}, sample {key}", uri)


def _files(uri: str, open_file: OpenFile) -> Iterator[tuple[str, bytes]]:
    with open_file(uri) as file:
        try:
            # As a stream: members are given up as they are passed, so that memory is that of one sample.
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isfile() else None
                    if content is not None and not member.name.rpartition("/")[2].startswith((".", "__")):
                        yield member.name.removeprefix("./"), content.read()
                    archive.members.clear()  # type: ignore[attr-defined]
        except (tarfile.TarError, EOFError) as error:
            raise ManifestError(f"{uri} is not a complete tar archive: {error}") from error


def json_object(where: str, text: str | bytes, wanted: str = "must hold a JSON object") -> dict[str, Any]:
    """The JSON object in a text; the error of another text names what is expected, ``wanted``."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ManifestError(f"{where}: no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: {wanted}, got {type(value).__name__}")
    return value


def _text(where: str, data: bytes) -> str:
    try:
        return data.decode().strip()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{where}: neither an image nor text in UTF-8: leave it out of the archive") from error


_BATCH_ROWS = 64  # rows may hold images


def parquet_types(uri: str, open_file: OpenFile) -> dict[str, pa.DataType]:
    """The columns of a file with their types."""
    _, schema = inspect_file(uri, open_file)
    return {field.name: field.type for field in schema}


def read_parquet(uri: str, open_file: OpenFile, *, without: Collection[str] = ()) -> Iterator[Record]:
    """The rows of a file, but for the columns in ``without``."""
    with open_file(uri) as file:
        try:
            parquet = ParquetReader(file)
            columns = [name for name in parquet.schema.names if name not in without]
            for row, cells in enumerate(parquet.rows(_BATCH_ROWS, columns)):
                yield Record(cells, f"{uri}, row {row}", uri)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise ManifestError(f"cannot read {uri}: {str(error).strip().partition(chr(10))[0]}") from error


def delimiter_hint(name: str) -> str:
    """What to do about a column's name that holds several, parted by another sign than the reader's; else empty."""
    if "\t" in name:
        return "columns are separated by tabs, so rename the file to end with .tsv"
    if ";" in name or "|" in name:
        sign = "semicolons" if ";" in name else "bars"
        return f"{sign} separate the columns, so save the table with commas, or with tabs as .tsv"
    return "columns are separated by commas, so rename the file to end with .csv" if "," in name else ""


def read_csv(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """Rows of a table with a header; an empty cell is null. A name that ends with ``.tsv`` means tabs."""
    delimiter = "\t" if uri.lower().endswith(".tsv") else ","
    with open_text(uri, open_file) as text:
        reader = csv.DictReader(text, delimiter=delimiter, strict=True)
        try:
            names = reader.fieldnames
            if not names or len(set(names)) < len(names):
                raise ManifestError(f"{uri}: the first line must name the columns, each once, got {names}")
            for row in reader:
                where = f"{uri}, line {reader.line_num}"
                if None in row:
                    hints = [f"; {name!r} there: {mended}" for name in names if (mended := delimiter_hint(name))]
                    raise ManifestError(f"{where}: more cells than columns in the header{''.join(hints[:1])}")
                cells = {name: cell_from_text(name, cell) for name, cell in row.items() if cell}
                yield Record({name: cells.get(name) for name in names}, where, uri)
        except csv.Error as error:
            raise ManifestError(f"{uri}, line {reader.line_num}: {error}") from error


def read_json_lines(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """One JSON object per line."""
    for where, _, cells in json_objects(uri, open_file):
        yield Record(cells, where, uri)


def json_objects(uri: str, open_file: OpenFile) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where each object stands, its line as it is, and the object; blank lines are left out."""
    with open_text(uri, open_file) as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            where = f"{uri}, line {number}"
            yield where, line.strip(), json_object(where, line, "each line must hold a JSON object")


def read_prompts(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """One prompt per line; blank lines are left out."""
    with open_text(uri, open_file) as text:
        for number, line in enumerate(text, start=1):
            if prompt := line.strip():
                yield Record({"prompt": prompt}, f"{uri}, line {number}", uri)
