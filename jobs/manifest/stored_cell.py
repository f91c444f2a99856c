"""How a cell is kept in the manifest's Parquet file: the one type of each known column, and values made to fit it."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from manifests.cells import number_cell, shown, whole_cell
from manifests.columns import COLUMNS, IMAGE, IMAGES, NUMBER, NUMBERS, TEXT, WHOLE, ColumnKind
from manifests.errors import ManifestRowError

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
    """A value of a known column as its type wants it; what is kept is what the row's own parsing then sees.

    Raises:
        ManifestRowError: The value cannot be kept in the column's type.
    """
    kind = COLUMNS[column].kind
    if value is None:
        return None
    if kind is IMAGE:
        return _stored_image(column, value, embeds_images)
    if kind is IMAGES:
        if not isinstance(value, list):
            raise ManifestRowError(f"{column} must be a list of images, got {shown(value)}")
        return [_stored_image(f"{column}[{index}]", each, embeds_images) for index, each in enumerate(value)]
    if kind is WHOLE:
        return whole_cell(column, value)
    if kind is NUMBER:
        return number_cell(column, value)
    if kind is NUMBERS and not isinstance(value, list):
        raise ManifestRowError(f"{column} must be a list of numbers, got {shown(value)}")
    if kind is TEXT and not isinstance(value, str):
        raise ManifestRowError(f"{column} must be text, got {shown(value)}")
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
        raise ManifestRowError(f"{column} must be a URI, got {shown(value)}: embedded images need the same in each row")
    if isinstance(value, Mapping):
        return {"bytes": value.get("bytes"), "path": value.get("path")}
    return {"bytes": value, "path": None} if isinstance(value, bytes) else {"bytes": None, "path": value}
