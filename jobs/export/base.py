"""What the forms of export share: the target that is filled once, names of columns, and cells as JSON."""

import base64
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from dimoo_core.errors import ConfigError
from jobs.export.rows import FinishedRow
from jobs.report.facts import RunFactSheet
from pipeline.storage.reader import open_store
from pipeline.storage.uri import parse_uri


def json_line(cells: Mapping[str, Any]) -> str:
    """One line of JSON; bytes are base64, and what JSON does not know is written as text. Nulls are left out."""
    given = {name: value for name, value in cells.items() if value is not None}
    return json.dumps(given, ensure_ascii=False, default=_plain)


def _plain(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


IMAGE_COLUMNS = frozenset({"image", "source_image", "source_images"})
"""Columns that hold images, whatever the form."""


def is_image_column(name: str) -> bool:
    """Whether tables and archives have images under this name."""
    return name in IMAGE_COLUMNS


def is_folder_column(name: str) -> bool:
    """Whether ``metadata.jsonl`` has something else under this name, or its readers make something of it.

    Source: Hugging Face's ImageFolder loads what ``file_name`` names as ``image``, what ``X_file_name`` names as ``X``,
    and lists of names in ``X_file_names`` likewise.
    """
    return is_image_column(name) or name == "words" or _names_files(name)


def _names_files(name: str) -> bool:
    return f"_{name}".endswith(("_file_name", "_file_names"))


def exported_names(names: Iterable[str], is_taken: Callable[[str], bool] = is_image_column) -> dict[str, str]:
    """What each of a row's columns is called in the export; ``image``, the input's URI, is ``image_uri``."""
    given = list(names)
    found = {}
    for name in given:
        free = name
        if is_taken(name):
            free = "image_uri" if name == "image" else f"{name}_given"
            while free in given:
                free = f"{free}_given"
        found[name] = free
    return found


def exported_cells(cells: Mapping[str, Any], is_taken: Callable[[str], bool] = is_image_column) -> dict[str, Any]:
    """The cells of a row under the names that they have in the export."""
    names = exported_names(cells, is_taken)
    return {names[name]: value for name, value in cells.items()}


def folder_cells(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The cells as ``metadata.jsonl`` has them: ImageFolder looks for names of files inside structs and lists too."""
    return {name: _without_file_names(value) for name, value in exported_cells(cells, is_folder_column).items()}


def _without_file_names(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_file_names(inner) for name, inner in exported_cells(value, _names_files).items()}
    if isinstance(value, list):
        return [_without_file_names(inner) for inner in value]
    return value


class ExportTarget:
    """A folder, locally or on S3, and a local one for what is on its way there."""

    def __init__(self, uri: str, scratch: Path, *, overwrites: bool) -> None:
        self.store = open_store(uri)
        self.scratch = scratch
        self.num_files = 0
        taken = None if overwrites else next(self.store.list(), None)
        if taken is not None:
            raise ConfigError(f"{self.store.uri_of(taken)} exists already: choose an empty folder, or --overwrite")

    def put(self, key: str, data: bytes) -> None:
        """Write a small file."""
        self.store.put(key, data)
        self.num_files += 1

    def put_file(self, key: str, path: Path) -> None:
        """Move a file there; a local one is not read into memory."""
        location = parse_uri(self.store.uri)
        if location.is_local:
            to = Path(location.path) / key
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, to)
        else:
            self.store.put(key, path.read_bytes())
            path.unlink()
        self.num_files += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSetup:
    """What a format is written from; ``schema`` is that of the rows' cells, ``facts`` are of the run.

    ``with_source``: rows may have an input image beside their own; ``with_several``: they may have several.
    """

    target: ExportTarget
    facts: RunFactSheet
    schema: pa.Schema
    with_source: bool
    with_several: bool
    model_name: str


class Export(Protocol):
    """Takes rows in order and makes something of them; an export with nothing open inherits ``close``."""

    def add(self, row: FinishedRow) -> None:
        """Take a row."""

    def finish(self) -> None:
        """Complete what was made; called once, after the last row."""

    def close(self) -> None:
        """Let go of what is open, finished or not."""
