"""Getting the input image of a row: bytes from wherever they are, decoded, upright and RGB."""

import importlib.util
import io
import warnings
from collections.abc import Callable
from functools import cache

from PIL import Image, UnidentifiedImageError

from dimoo_core.errors import DimooError
from manifests.row import ImageSource
from pipeline.object_reader import ObjectReader
from pipeline.upright_image import PixelsUnclear, upright_rgb
from pipeline.uri import is_relative

MAX_INPUT_PIXELS = 178_956_970  # Pillow's own limit for what it calls a decompression bomb
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "HEIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM")
"""Formats that are opened, where Pillow was built with them; of its others one (EPS) interprets a program."""
_HEIC_BEGINNINGS = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1"))

Convert = Callable[[Image.Image], Image.Image]


class ImageUnreadable(DimooError):
    """The bytes of an input image are no image that can be decoded."""


def fetch_image(
    source: ImageSource, reader: ObjectReader, folder_uri: str, convert: Convert = upright_rgb
) -> Image.Image:
    """Read and decode an input image.

    Args:
        source: Bytes, or a URI; a relative one starts at the manifest's folder.
        reader: Reads by URI.
        folder_uri: Folder of the manifest file that names it.
        convert: Makes of the opened image what is returned.

    Raises:
        StoreError: The bytes cannot be had.
        ImageUnreadable: They are no image, a damaged one, or one too large.
    """
    if source.data is not None:
        data = source.data
    else:
        assert source.uri is not None
        uri = f"{folder_uri.rstrip('/')}/{source.uri}" if is_relative(source.uri) else source.uri
        data = reader.read(uri)
    try:
        with Image.open(io.BytesIO(data), formats=_known_formats()) as image:
            return convert(image)
    except PixelsUnclear as error:
        raise ImageUnreadable(f"{source.name} {error}") from error
    except Image.DecompressionBombError as error:
        raise ImageUnreadable(f"{source.name} has more than the {MAX_INPUT_PIXELS} pixels that are allowed") from error
    except UnidentifiedImageError as error:
        raise ImageUnreadable(f"{source.name} {_unknown(data)}") from error
    except Exception as error:  # wrong bytes make Pillow's decoders raise nearly anything
        raise ImageUnreadable(f"{source.name} is damaged: {' '.join(str(error).split())}") from error


def ignore_pillow_warnings() -> None:
    """Keep what Pillow says about odd images to itself, in this process. Not in ``fetch_image``: filters are global."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


@cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    if importlib.util.find_spec("pillow_heif") is not None:  # Pillow itself cannot read HEIC
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _unknown(data: bytes) -> str:
    if data[4:12] in _HEIC_BEGINNINGS and "HEIF" not in _known_formats():
        return "is a HEIC image, which needs pillow-heif: install dimoo-batch[heic], or convert it"
    return f"is not an image ({_described(data)}); known are {', '.join(_known_formats())}"


def _described(data: bytes) -> str:
    return f"{len(data)} bytes beginning with {data[:8].hex(' ')}" if data else "no bytes at all"
