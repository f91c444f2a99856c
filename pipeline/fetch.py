"""Getting the input image of a row: bytes from wherever they are, decoded, upright and RGB."""

import io
import warnings

from PIL import Image, UnidentifiedImageError

from dimoo_core.errors import DimooError
from dimoo_core.image_fit import upright_rgb
from manifests.row import ImageSource
from pipeline.object_reader import ObjectReader
from pipeline.uri import is_relative

MAX_INPUT_PIXELS = 178_956_970  # Pillow's own limit for what it calls a decompression bomb


class ImageUnreadable(DimooError):
    """The bytes of an input image are no image that can be decoded."""


def fetch_image(source: ImageSource, reader: ObjectReader, folder_uri: str) -> Image.Image:
    """Read and decode an input image.

    Args:
        source: Bytes, or a URI; a relative one starts at the manifest's folder.
        reader: Reads by URI.
        folder_uri: Folder of the manifest file that names it.

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
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_INPUT_PIXELS:
                raise ImageUnreadable(
                    f"{source.name} has {image.width}x{image.height} pixels, at most {MAX_INPUT_PIXELS} are allowed"
                )
            return upright_rgb(image)
    except Image.DecompressionBombError as error:
        raise ImageUnreadable(f"{source.name} has too many pixels, at most {MAX_INPUT_PIXELS} are allowed") from error
    except UnidentifiedImageError as error:
        raise ImageUnreadable(f"{source.name} is not an image ({_described(data)})") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageUnreadable(f"{source.name} is damaged: {error}") from error


def _described(data: bytes) -> str:
    return f"{len(data)} bytes beginning with {data[:8].hex(' ')}" if data else "no bytes at all"
