"""An opened image file as the model takes it: its first frame, turned upright, in 8 bits a channel.

Pillow opens a file of several frames at its first and reads colours of 16 bits by their high byte. Gray of 16 bits it
would clip at 255 instead, so that is scaled here in the same way. Colour profiles are not applied and transparency is
dropped, both as the reference does.
"""

from PIL import Image, ImageOps

from dimoo_core.errors import DimooError

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF
_UNREADABLE_EXIF = (SyntaxError, ValueError, TypeError, KeyError, OSError, OverflowError, ZeroDivisionError)


class PixelsUnclear(DimooError):
    """An image whose numbers do not say how bright it is."""


def upright_rgb(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says, in RGB.

    Raises:
        PixelsUnclear: It is gray, and how bright its numbers are is not said.
    """
    return upright(image).convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says, in its own mode; gray of more than 8 bits becomes mode L.

    Raises:
        PixelsUnclear: It is gray, and how bright its numbers are is not said.
    """
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
        return image  # the pixels are whole; EXIF that nobody can read does not say that they are lying


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
