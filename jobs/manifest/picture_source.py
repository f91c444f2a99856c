"""Records from images: files of a folder or prefix, and the samples of WebDataset archives."""

import json
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any

from jobs.manifest.record import OpenFile, Record
from manifests.errors import ManifestError

IMAGE_SUFFIXES = frozenset({"png", "jpg", "jpeg", "webp", "avif", "gif", "tif", "tiff", "bmp", "jp2", "ppm", "pgm"})
"""Name endings that are taken for images."""


def is_image_name(name: str) -> bool:
    """Whether a file's name says that it holds an image."""
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

    Raises:
        ManifestError: The file is no archive, is cut off, or a sample's text is not UTF-8 or no JSON object.
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
            named |= _object(where, data)
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
            raise ManifestError(f"{uri} is no whole tar archive: {error}") from error


def _object(where: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ManifestError(f"{where}: no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: must hold a JSON object, got {type(value).__name__}")
    return value


def _text(where: str, data: bytes) -> str:
    try:
        return data.decode().strip()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{where}: neither an image nor text in UTF-8: leave it out of the archive") from error
