"""Where the input image of a row comes from. The image itself is neither fetched nor opened here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from manifests.cells import UndecodableText, has_control_characters, shown, text_cell
from manifests.errors import ManifestRowError
from manifests.redact import public_uri

MAX_IMAGES = 64
"""Most input images of one row; how many fit beside each other depends on their sizes."""

EMBEDDED_NAME = "embedded image"


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
        raise ManifestRowError(f"{column} must be a URI or the bytes of an image file, got {shown(value)}")
    uri = text_cell(column, value)
    if uri is None:
        return None
    name = _shown_name(uri, column)
    if has_control_characters(uri):
        raise ManifestRowError(f"{column} must be a URI without control characters, got {shown(name)}")
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
        raise ManifestRowError(f"{column} must be a list of images, got {shown(value)}: give [image, ...]")
    if len(value) > MAX_IMAGES:
        raise ManifestRowError(f"{column} must be at most {MAX_IMAGES} images, got {len(value)}: split the row")
    sources = tuple(image_source(each, f"{column}[{index}]") for index, each in enumerate(value))
    if None in sources:
        raise ManifestRowError(f"{column}[{sources.index(None)}] is null: leave it out")
    return tuple(source for source in sources if source is not None)


def _shown_name(uri: str, column: str) -> str:
    return public_uri(uri) if column == "image" else f"{column} {public_uri(uri)}"
