"""Images of every kind, written as real files and read back as the model takes them."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from manifests.row.images import ImageSource
from pipeline.images.decoder import ImageUnreadable
from pipeline.images.decoder_process import upright, words_of_unknown
from pipeline.images.inputs import ImageFetcher
from pipeline.protocol.source_policy import SourcePolicy
from tests.support.manifest_rows import encoded, picture

ORIENTATION = 0x0112
LEVELS = [0, 255, 256, 1000, 32768, 65407, 65535]
HIGH_BYTES = [0, 0, 1, 3, 128, 255, 255]
KINDS_WITH_ORIENTATION = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF")


FETCHER = ImageFetcher(SourcePolicy())


@pytest.fixture(scope="module", autouse=True)
def _processes_end() -> Iterator[None]:
    yield
    FETCHER.close()


@pytest.fixture(autouse=True)
def _heif_can_be_written() -> None:
    from pillow_heif import register_heif_opener

    register_heif_opener()


def fetch(data: bytes) -> Image.Image:
    return FETCHER.fetch(ImageSource(data=data, name="photo"), "unused")


def values(image: Image.Image) -> list[Any]:
    """The pixels of the first line."""
    found: list[Any] = np.asarray(image)[0].tolist()
    return found


def png_of_16_bits(channels: list[list[int]]) -> bytes:
    """A PNG of one line, with 1 channel (gray), 2 (and alpha), 3 (RGB) or 4; Pillow writes gray alone."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    line = b"\0" + np.array(channels).T.astype(">u2").tobytes()
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[len(channels)]
    header = struct.pack(">IIBBBBB", len(channels[0]), 1, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(line)) + chunk(b"IEND", b"")


def tiff(data: bytes, width: int, tags: dict[int, tuple[int, ...]]) -> bytes:
    """A TIFF of one line without compression; every tag holds up to two 16-bit numbers."""
    all_tags = {256: (width,), 257: (1,), 259: (1,), 273: (8,), 278: (1,), 279: (len(data),)} | tags
    entries = b""
    for tag, numbers in sorted(all_tags.items()):
        entries += struct.pack("<HHI", tag, 3, len(numbers)) + struct.pack(f"<{len(numbers)}H", *numbers).ljust(
            4, b"\0"
        )
    header = b"II*\0" + struct.pack("<I", 8 + len(data))
    return header + data + struct.pack("<H", len(all_tags)) + entries + struct.pack("<I", 0)


def gray_16(numbers: list[int]) -> Image.Image:
    return Image.fromarray(np.array([numbers], dtype="<u2"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM"])
def test_a_file_of_every_kind_shows_the_picture_that_was_saved(kind: str) -> None:
    original = picture(3, (96, 64))
    read = fetch(encoded(original, kind, **({"quality": 95} if kind in ("JPEG", "WEBP", "AVIF", "HEIF") else {})))
    assert (read.mode, read.size) == ("RGB", original.size)
    difference = np.abs(np.asarray(read).astype(int) - np.asarray(original)).mean()
    assert difference < 6, "lossy formats and palettes may change pixels a little, not the picture"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS_WITH_ORIENTATION)
def test_every_orientation_is_turned_upright_in_every_kind_of_file(kind: str, orientation: int) -> None:
    lies_as = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    original = Image.new("RGB", (64, 32), "blue")
    original.paste("red", (0, 0, 32, 16))  # the upper left quarter tells all eight apart
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    lying = original if lies_as is None else original.transpose(lies_as)
    read = fetch(encoded(lying, kind, exif=exif.tobytes()))
    assert read.size == original.size
    assert np.abs(np.asarray(read).astype(int) - np.asarray(original)).mean() < 12


def test_gray_of_16_bits_is_turned_upright_too() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 8  # to be turned by 90 degrees counterclockwise
    read = fetch(encoded(gray_16(LEVELS), "PNG", exif=exif.tobytes()))
    assert read.size == (1, len(LEVELS))
    assert np.asarray(read)[::-1, 0, 0].tolist() == HIGH_BYTES


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_that_cannot_be_read_does_not_make_a_photograph_unreadable() -> None:
    read = fetch(encoded(picture(0), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40))
    assert read.size == picture(0).size


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_gray_of_16_bits_is_scaled_and_not_clipped(kind: str) -> None:
    read = fetch(encoded(gray_16(LEVELS), kind))
    assert values(read) == [[level] * 3 for level in HIGH_BYTES]


@pytest.mark.parametrize("num_channels", [1, 2, 3, 4])
def test_16_bits_are_scaled_alike_whatever_the_channels(num_channels: int) -> None:
    read = fetch(png_of_16_bits([LEVELS] * num_channels))
    assert values(read) == [[level] * 3 for level in HIGH_BYTES]


@pytest.mark.parametrize("maximum", [65535, 1023])
def test_a_pgm_is_scaled_by_its_own_maximum(maximum: int) -> None:
    numbers = [0, maximum // 2, maximum]
    read = fetch(b"P5 3 1 %d\n" % maximum + np.array(numbers).astype(">u2").tobytes())
    assert values(read) == [[level] * 3 for level in (0, 127, 255)]


def test_a_tiff_in_which_0_is_white_is_inverted() -> None:
    data = np.array(LEVELS, "<u2").tobytes()
    tags = {258: (16,), 262: (0,), 277: (1,)}
    assert values(fetch(tiff(data, len(LEVELS), tags))) == [[255 - level] * 3 for level in HIGH_BYTES]


def test_a_tiff_of_12_bits_is_scaled_by_12_bits() -> None:
    data = bytes([0x00, 0x08, 0x00, 0xFF, 0xFF, 0xFF])  # 0x000, 0x800, 0xfff, 0xfff
    read = fetch(tiff(data, 4, {258: (12,), 262: (1,), 277: (1,)}))
    assert values(read) == [[level] * 3 for level in (0, 128, 255, 255)]


@pytest.mark.parametrize(("mode", "words"), [("F", "floating point numbers"), ("I", "signed or 32-bit integers")])
def test_numbers_of_which_none_is_white_are_refused(mode: str, words: str) -> None:
    with pytest.raises(ImageUnreadable) as caught:
        fetch(encoded(Image.new(mode, (8, 8)), "TIFF"))
    message = str(caught.value)
    assert message == f"photo holds {words} (mode {mode}), of which none is white: store 8 or 16 bits a channel"


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_the_inks_of_cmyk_are_not_inverted(kind: str) -> None:
    inks = {"red": (0, 255, 255, 0), "white": (0, 0, 0, 0), "black": (0, 0, 0, 255), "cyan": (255, 0, 0, 0)}
    for name, ink in inks.items():
        read = fetch(encoded(Image.new("CMYK", (16, 16), ink), kind))
        wanted = np.array(Image.new("RGB", (16, 16), name)).astype(int)
        assert np.abs(np.asarray(read) - wanted).max() < 4, name


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_transparency_is_dropped_and_the_colours_under_it_stay(kind: str) -> None:
    """As the reference reads images: no background is made up."""
    image = Image.new("RGBA", (32, 32), (200, 30, 60, 128))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    read = fetch(encoded(image, kind, **options))
    assert np.abs(np.asarray(read).astype(int) - (200, 30, 60)).max() < 8


def test_a_palette_with_a_transparent_colour_is_read_by_its_colours() -> None:
    image = Image.new("P", (4, 1), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert values(fetch(encoded(image, "PNG", transparency=1))) == [[40, 50, 60]] * 4


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_gray_and_black_and_white_become_three_equal_channels(mode: str, kind: str) -> None:
    image = picture(0, (8, 6)).convert(mode)
    read = fetch(encoded(image, kind))
    assert read.tobytes() == image.convert("L").convert("RGB").tobytes()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF", "MPO", "HEIF"])
def test_of_several_frames_the_first_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (64, 32), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(data)) as opened:
        assert getattr(opened, "n_frames", 1) == 3
    read = fetch(data)
    assert read.size == (64, 32)
    assert np.abs(np.asarray(read).astype(int) - (255, 0, 0)).max() < 8


def test_a_mask_keeps_its_mode_unless_it_has_16_bits() -> None:
    for mode in ("1", "L", "RGB", "LA", "P"):
        assert upright(Image.new(mode, (4, 4))).mode == mode
    mask = upright(gray_16([0, 32767, 32768, 65535]))
    assert (mask.mode, values(mask)) == ("L", [0, 127, 128, 255])


def test_without_its_reader_a_heic_image_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(picture(0), "HEIF")
    monkeypatch.setattr("pipeline.images.decoder_process.known_formats", lambda: ("PNG", "JPEG"))
    assert words_of_unknown(data).startswith("is a HEIC image, which needs pillow-heif: install dimoo-batch")
