"""Names of an export's columns: those of the row, except where the export itself has a column of that name."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

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
