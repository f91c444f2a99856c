"""The program of a decoder: a process that opens image files which nobody has to trust.

``python -m pipeline.images.decoder_process MAX_PIXELS TIMEOUT_S MEMORY_BYTES`` reads requests from standard input and
answers on standard output, one at a time; it ends with its input. A file that takes too long or too much memory, or
that crashes the libraries that decode it, ends or fails this process and nothing else. It is given no credentials.

Request: the length of the file (8 bytes), what is wanted of it (1 byte, ``Wanted``), the file. Answer: a line of JSON,
either with ``error`` and ``message``, or with format and upright size where a header is wanted, or with the size in
pixels; upon one more byte of input a second line with mode and size, then the pixels, or again an error. Of an image
of at most ``FREE_PIXELS`` the second line comes at once.

Pillow opens a file of several frames at its first and reads colours of 16 bits by their high byte. Gray of 16 bits it
would clip at 255 instead, so that is scaled here in the same way. Colour profiles are not applied and transparency is
dropped, both as the reference does.
"""

import importlib.util
import io
import json
import resource
import signal
import struct
import sys
import warnings
from enum import IntEnum
from functools import cache
from typing import Any, BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from dimoo_core.errors import DimooError

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF
_ORIENTATION = 274  # of EXIF
_UNREADABLE_EXIF = (SyntaxError, ValueError, TypeError, KeyError, OSError, OverflowError, ZeroDivisionError)


class PixelsUnclear(DimooError):
    """An image whose numbers have no known range of brightness."""


def upright_rgb(image: Image.Image) -> Image.Image:
    """The image rotated by its EXIF orientation, in RGB.

    Raises:
        PixelsUnclear: It is gray, and the range of its numbers is not known.
    """
    return upright(image).convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """The image rotated by its EXIF orientation, in its own mode; gray of more than 8 bits becomes mode L."""
    num_bits, is_inverted = _gray_bits(image), _is_inverted(image)
    image.load()
    turned = _turned(image)
    if num_bits is None:
        return turned
    high_bytes = turned.convert("I").point(lambda value: value * 2.0 ** (8 - num_bits)).convert("L")
    return ImageOps.invert(high_bytes) if is_inverted else high_bytes


def _turned(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _UNREADABLE_EXIF:
        return image  # the pixels are whole; EXIF that cannot be read does not mean that they are rotated


def _is_turned(image: Image.Image) -> bool:
    """Whether ``_turned`` exchanges width and height."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1)) in range(5, 9)
    except _UNREADABLE_EXIF:
        return False


def _gray_bits(image: Image.Image) -> int | None:
    """Bits of a gray pixel, if there are more than 8; None for all other images."""
    if image.mode.startswith("I;16"):
        bits = _tiff_tag(image, _BITS_PER_SAMPLE)
        return bits[0] if isinstance(bits, tuple) else 16
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # 0 to 65535, whatever the file's own maximum is
        return 16
    if image.mode in ("I", "F"):
        numbers = "floating point numbers" if image.mode == "F" else "signed or 32-bit integers"
        raise PixelsUnclear(
            f"holds {numbers} (mode {image.mode}), of which none is white: store 8 or 16 bits a channel"
        )
    return None


def _is_inverted(image: Image.Image) -> bool:
    """Whether 0 is white, which Pillow heeds for gray of 8 bits only."""
    return image.mode.startswith("I;16") and _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO


def _tiff_tag(image: Image.Image, tag: int) -> object:
    """A tag of a TIFF file; None if it has none, or is another kind of file."""
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(tag)


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
    """The message for a file that none of the known formats fits."""
    if data[4:12] in _HEIC_BEGINNINGS and "HEIF" not in known_formats():
        return "is a HEIC image, which needs pillow-heif: install dimoo-batch[heic], or convert it"
    return f"is not an image ({_described(data)}); known are {', '.join(known_formats())}"


def _described(data: bytes) -> str:
    return f"{len(data)} bytes beginning with {data[:8].hex(' ')}" if data else "no bytes at all"


class Wanted(IntEnum):
    """What is made of a file: pixels in RGB, pixels in its own mode, or no pixels."""

    RGB = 0
    OWN_MODE = 1
    HEADER = 2


REQUEST = struct.Struct("<QB")
GO = b"g"
FREE_PIXELS = 2**20
"""An image of so many is decoded without leave: threads hold a few of them at a time, whatever the limit is."""


def main(max_pixels: int, timeout_s: float, memory_bytes: int) -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for those that use this process; they end it
    _limit_memory(memory_bytes)
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # checked here, against the job's own limit
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        num_bytes, wanted = REQUEST.unpack(head)
        serve(requests.read(num_bytes), Wanted(wanted), max_pixels, timeout_s, requests, answers)


def serve(
    data: bytes, wanted: Wanted, max_pixels: int, timeout_s: float, requests: BinaryIO, answers: BinaryIO
) -> None:
    """Answer one request. The alarm is left at its default, which ends the process whatever code it is in."""
    try:
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        with Image.open(io.BytesIO(data), formats=known_formats()) as image:
            if image.width * image.height > max_pixels:
                signal.setitimer(signal.ITIMER_REAL, 0)
                _tell(answers, error="too_large", message=f"{image.width}x{image.height}")
                return
            if wanted is Wanted.HEADER:
                _gray_bits(image)  # raises where the range of its numbers is not known
                width, height = image.size[::-1] if _is_turned(image) else image.size
                _tell(answers, format=image.format, width=width, height=height)
                return
            if image.width * image.height > FREE_PIXELS:
                signal.setitimer(signal.ITIMER_REAL, 0)
                _tell(answers, width=image.width, height=image.height)
                if requests.read(len(GO)) != GO:
                    return
                signal.setitimer(signal.ITIMER_REAL, timeout_s)
            decoded = upright(image) if wanted is Wanted.OWN_MODE else upright_rgb(image)
            pixels = decoded.tobytes()
    except MemoryError:
        _tell(answers, error="memory", message="")
        return
    except PixelsUnclear as error:
        _tell(answers, error="unclear", message=str(error))
        return
    except UnidentifiedImageError:
        _tell(answers, error="unknown", message="")
        return
    except Exception as error:  # wrong bytes make Pillow's decoders raise nearly anything
        _tell(answers, error="damaged", message=" ".join(str(error).split()))
        return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    _tell(answers, mode=decoded.mode, width=decoded.width, height=decoded.height, num_bytes=len(pixels))
    answers.write(pixels)
    answers.flush()


def _tell(answers: BinaryIO, **answer: Any) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _limit_memory(num_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = num_bytes if hard == resource.RLIM_INFINITY else min(num_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
