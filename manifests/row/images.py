"""Where the input images of a row come from, as a URI, bytes or VQ codes. Nothing is fetched or opened here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dimoo_core.settings import MAX_SIDE_PX, PIXELS_PER_TOKEN
from manifests.cells import UndecodableText, has_control_characters, numbers_cell, short_repr, text_cell, whole_cell
from manifests.errors import ManifestRowError
from manifests.redact import redact_uri

MAX_SIDE_CODES = MAX_SIDE_PX // PIXELS_PER_TOKEN
MAX_CODE = 2**16 - 1


@dataclass(frozen=True, slots=True)
class CodeGrid:
    """Codes row by row, ``rows * columns`` of them."""

    codes: tuple[int, ...]
    rows: int
    columns: int


def code_grid_cells(record: Mapping[str, Any], task: str) -> CodeGrid:
    """The codes of a row whose task needs them.

    Whether each is in the model's codebook is for the worker to see.
    """
    value = record.get("vq_codes")
    grid = numbers_cell("vq_grid", record.get("vq_grid"), ("rows", "columns"))
    for column, given in (("vq_codes", value), ("vq_grid", grid)):
        if given is None:
            raise ManifestRowError(f"{column} is null, task {task!r} needs it: give what task 'tokenize' wrote there")
    assert grid is not None
    if not all(side.is_integer() and 1 <= side <= MAX_SIDE_CODES for side in grid):
        allowed = f"two whole numbers from 1 to {MAX_SIDE_CODES}"
        raise ManifestRowError(f"vq_grid must be {allowed}, got {short_repr(record['vq_grid'])}: give [rows, columns]")
    rows, columns = (int(side) for side in grid)
    codes = _codes(value)
    if len(codes) != rows * columns:
        fix = f"give one code for each of its {rows * columns} cells"
        raise ManifestRowError(f"vq_codes must fill the vq_grid [{rows}, {columns}], got {len(codes)} codes: {fix}")
    return CodeGrid(codes, rows, columns)


def _codes(value: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ManifestRowError(f"vq_codes must be a list of whole numbers, got {short_repr(value)}")
    codes = tuple(code if isinstance(code, int) else whole_cell("vq_codes", code) for code in value)
    for index, code in enumerate(codes):
        if code is None or not 0 <= code <= MAX_CODE:
            raise ManifestRowError(f"vq_codes must be from 0 to {MAX_CODE}, got {code} at place {index}")
    return tuple(code for code in codes if code is not None)


MAX_IMAGES = 64
"""Most input images of one row; how many fit beside each other depends on their sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """Exactly one of ``uri`` and ``data``; ``name`` is for messages and holds no credentials or signature.

    ``column`` is where the row has it, such as ``images[2]``.
    """

    uri: str | None = field(default=None, repr=False)
    data: bytes | None = field(default=None, repr=False)
    name: str
    column: str = "image"

    def __post_init__(self) -> None:
        if (self.uri is None) == (self.data is None):
            raise ValueError(f"an image source has either a uri or data, {self.name} has both or neither")


def image_source(value: object, column: str = "image") -> ImageSource | None:
    """The source that a cell of ``image``, or of another column of images, names; None when it is null.

    A struct's ``bytes`` win over its ``path``, which then only names the image.

    Raises:
        ManifestRowError: The cell is neither a URI, bytes nor a struct of them, or it is empty.
    """
    path: object = None
    if isinstance(value, Mapping):
        path = value.get("path")
        value = path if value.get("bytes") is None else value["bytes"]
    if value is None:
        return None
    if isinstance(value, bytes):
        if not value:
            raise ManifestRowError(f"{column} must not be empty, got 0 bytes: give the bytes of an image file")
        name = _shown_name(path, column) if isinstance(path, str) and path else f"embedded {column}"
        return ImageSource(data=value, name=name, column=column)
    if not isinstance(value, str | UndecodableText):
        raise ManifestRowError(f"{column} must be a URI or the bytes of an image file, got {short_repr(value)}")
    uri = text_cell(column, value)
    if uri is None:
        return None
    name = _shown_name(uri, column)
    if has_control_characters(uri):
        raise ManifestRowError(f"{column} must be a URI without control characters, got {short_repr(name)}")
    return ImageSource(uri=uri, name=name, column=column)


def image_sources(value: object, column: str = "images") -> tuple[ImageSource, ...]:
    """The sources that a cell with a list of images names, in its order; none when it is null.

    Raises:
        ManifestRowError: The cell is no list of 1 to ``MAX_IMAGES`` images, or one of them is not what
            ``image_source`` takes.
    """
    if value is None:
        return ()
    if not isinstance(value, list) or not value:
        raise ManifestRowError(f"{column} must be a list of images, got {short_repr(value)}: give [image, ...]")
    if len(value) > MAX_IMAGES:
        raise ManifestRowError(f"{column} must be at most {MAX_IMAGES} images, got {len(value)}: split the row")
    sources = tuple(image_source(each, f"{column}[{index}]") for index, each in enumerate(value))
    if None in sources:
        raise ManifestRowError(f"{column}[{sources.index(None)}] is null: leave it out")
    return tuple(source for source in sources if source is not None)


def _shown_name(uri: str, column: str) -> str:
    return redact_uri(uri) if column == "image" else f"{column} {redact_uri(uri)}"
