"""Formats of input images, and what is said of a file that has none of them. Importable in a bare decoder."""

import importlib.util
from functools import cache

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "HEIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM")
"""Formats that are opened, where Pillow was built with them; of its others one (EPS) interprets a program."""

_HEIC_BEGINNINGS = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1"))


@cache
def known_formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` that can be opened here."""
    Image.init()
    if importlib.util.find_spec("pillow_heif") is not None:  # Pillow itself cannot read HEIC
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def words_of_unknown(data: bytes) -> str:
    """What is said of a file that none of the known formats fits."""
    if data[4:12] in _HEIC_BEGINNINGS and "HEIF" not in known_formats():
        return "is a HEIC image, which needs pillow-heif: install dimoo-batch[heic], or convert it"
    return f"is not an image ({_described(data)}); known are {', '.join(known_formats())}"


def _described(data: bytes) -> str:
    return f"{len(data)} bytes beginning with {data[:8].hex(' ')}" if data else "no bytes at all"
