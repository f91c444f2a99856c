"""One record on its way into a manifest: its cells by column, where it was found, and the stored type of each cell."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import pyarrow as pa

from manifests.cells import number_cell, short_repr, whole_cell
from manifests.columns import COLUMNS, IMAGE, IMAGES, NUMBER, NUMBERS, TEXT, WHOLE, ColumnKind
from manifests.errors import ManifestError, ManifestRowError

IMAGE_STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TYPES: Mapping[str, pa.DataType] = {
    TEXT.accepted: pa.string(),
    WHOLE.accepted: pa.int64(),
    NUMBER.accepted: pa.float64(),
    NUMBERS.accepted: pa.list_(pa.float64()),
}


def stored_type(column: str, *, embeds_images: bool) -> pa.DataType | None:
    """The type in which a column is kept; None for columns that pass through, and for kinds that have no one type."""
    kind = COLUMNS[column].kind if column in COLUMNS else None
    if kind is IMAGE:
        return IMAGE_STRUCT if embeds_images else pa.string()
    if kind is IMAGES:
        return pa.list_(IMAGE_STRUCT if embeds_images else pa.string())
    return None if kind is None else _TYPES.get(kind.accepted)


def stored_cell(column: str, value: Any, *, embeds_images: bool) -> Any:
    """A value of a known column as its type wants it; what is kept is what the row's own parsing then sees."""
    kind = COLUMNS[column].kind
    if value is None:
        return None
    if kind is IMAGE:
        return _stored_image(column, value, embeds_images)
    if kind is IMAGES:
        if not isinstance(value, list):
            raise ManifestRowError(f"{column} must be a list of images, got {short_repr(value)}")
        return [_stored_image(f"{column}[{index}]", each, embeds_images) for index, each in enumerate(value)]
    if kind is WHOLE:
        return whole_cell(column, value)
    if kind is NUMBER:
        return number_cell(column, value)
    if kind is NUMBERS and not isinstance(value, list):
        raise ManifestRowError(f"{column} must be a list of numbers, got {short_repr(value)}")
    if kind is TEXT and not isinstance(value, str):
        raise ManifestRowError(f"{column} must be text, got {short_repr(value)}")
    return value


def cell_from_text(column: str, text: str) -> Any:
    """The value that a text stands for, where tables hold nothing but text; the text itself if it stands for none.

    What does not fit the column's type is found, with its row, when the cell is stored.
    """
    kind: ColumnKind | None = COLUMNS[column].kind if column in COLUMNS else None
    try:
        if kind is WHOLE:
            return int(text)
        if kind is NUMBER:
            return float(text)
        return text if kind is None or kind in (TEXT, IMAGE) else json.loads(text)
    except ValueError:
        return text


def _stored_image(column: str, value: Any, embeds_images: bool) -> Any:
    if not embeds_images:
        if isinstance(value, str):
            return value
        raise ManifestRowError(
            f"{column} must be a URI, got {short_repr(value)}: embedded images need the same in each row"
        )
    if isinstance(value, Mapping):
        return {"bytes": value.get("bytes"), "path": value.get("path")}
    return {"bytes": value, "path": None} if isinstance(value, bytes) else {"bytes": None, "path": value}


OpenFile = Callable[[str], BinaryIO]
_SHOWN_CHARACTERS = 20


@dataclass(frozen=True, slots=True)
class Record:
    """``where`` names file and line for messages; ``source_uri`` is the file that relative image paths start at.

    ``image_bytes`` is the size of the file that ``image`` names, if it was looked up.
    """

    cells: dict[str, Any]
    where: str
    source_uri: str = field(default="", repr=False)
    image_bytes: int | None = field(default=None, repr=False)

    def with_cells(self, cells: dict[str, Any]) -> "Record":
        """The same place with other cells."""
        return replace(self, cells=cells)


@contextmanager
def open_text(uri: str, open_file: OpenFile) -> Iterator[io.TextIOWrapper]:
    """A text file in UTF-8, with or without a byte order mark; line ends are left to the reader."""
    with open_file(uri) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        try:
            yield text
        except UnicodeDecodeError as error:
            raise ManifestError(f"{uri}{_undecodable_line(uri, open_file)}: save the file as UTF-8") from error


def _undecodable_line(uri: str, open_file: OpenFile) -> str:
    """Line and bytes of the first text that is not UTF-8; a decoder only reports their place in what it read last."""
    with open_file(uri) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                before = line[: error.start].decode()[-_SHOWN_CHARACTERS:]
                return f", line {number}: not text in UTF-8, the byte 0x{line[error.start]:02x} follows {before!r}"
    return " is not text in UTF-8"
