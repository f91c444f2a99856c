import io
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manifests.row.images import ImageSource
from pipeline.images.decoder import ImageUnreadable
from pipeline.images.decoder_process import FORMATS
from pipeline.images.inputs import ImageFetcher
from pipeline.protocol.source_policy import MAX_INPUT_PIXELS, SourcePolicy
from pipeline.storage.errors import ObjectNotFound, StoreError
from tests.support.manifest_rows import encoded, picture

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "PPM")


FETCHER = ImageFetcher(SourcePolicy())


@pytest.fixture(scope="module", autouse=True)
def _processes_end() -> Iterator[None]:
    yield
    FETCHER.close()


def fetch(data: bytes, name: str = "photo", **options: bool) -> Image.Image:
    return FETCHER.fetch(ImageSource(data=data, name=name), "unused", **options)


def fetch_uri(uri: str, folder: object) -> Image.Image:
    return FETCHER.fetch(ImageSource(uri=uri, name=uri), str(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_every_common_format_are_read_as_rgb(kind: str) -> None:
    image = fetch(encoded(picture(0), kind))
    assert (image.mode, image.size) == ("RGB", (72, 48))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_images_of_every_mode_are_read_as_rgb(mode: str) -> None:
    image = Image.new("I;16", (8, 6)) if mode == "I;16" else picture(0, (8, 6)).convert(mode)
    assert fetch(encoded(image)).mode == "RGB"


def test_photographs_are_turned_upright() -> None:
    upright = picture(0, (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    fetched = fetch(encoded(lying, "PNG", exif=exif))
    assert fetched.size == (40, 20)
    assert fetched.tobytes() == upright.tobytes()


def test_relative_names_start_at_the_folder_of_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest" / "photos").mkdir(parents=True)
    for path in ("manifest/photos/a b#c%20.png", "beside.png"):
        (tmp_path / path).write_bytes(encoded(picture(0)))
    for uri in ("photos/a b#c%20.png", "./photos/a b#c%20.png", "../beside.png", str(tmp_path / "beside.png")):
        assert fetch_uri(uri, tmp_path / "manifest").size == (72, 48)
    assert fetch_uri((tmp_path / "beside.png").as_uri(), "elsewhere").size == (72, 48)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound, match=f"{tmp_path}/photos/gone.png"):
        fetch_uri("photos/gone.png", tmp_path)


@pytest.mark.parametrize("uri", ["http://example.org/a.png", "ftp://x/y", "s3:///key", "a\0b", "photos/"])
def test_a_uri_that_cannot_be_opened_is_an_error_of_the_store(uri: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        fetch_uri(uri, tmp_path)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "photo is not an image (no bytes at all)"),
        (b"<html>404", "photo is not an image (9 bytes beginning with 3c 68 74 6d 6c 3e 34 30)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "photo is not an image"),
        (encoded(picture(0))[:-40], "photo is damaged"),
        (encoded(picture(0), "JPEG")[:400], "photo is damaged"),
    ],
)
def test_bytes_that_are_no_image_are_told(data: bytes, words: str) -> None:
    with pytest.raises(ImageUnreadable) as caught:
        fetch(data)
    assert str(caught.value).startswith(words)
    assert str(caught.value).isprintable()


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def test_a_decompression_bomb_is_refused_before_it_goes_off() -> None:
    with pytest.raises(ImageUnreadable, match=f"more than the {MAX_INPUT_PIXELS} pixels"):
        fetch(png_header(100_000, 100_000) + encoded(picture(0))[33:])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_the_mode_is_kept_where_it_matters(mode: str) -> None:
    image = picture(0, (9, 7)).convert(mode)
    fetched = fetch(encoded(image, "TIFF"), keeps_mode=True)
    assert (fetched.mode, fetched.size, fetched.tobytes()) == (mode, (9, 7), image.tobytes())


def test_a_large_photograph_is_no_bomb_and_no_warning() -> None:
    assert fetch(encoded(Image.new("1", (10_000, 9_000)))).size == (10_000, 9_000)


def test_only_formats_that_are_meant_are_opened() -> None:
    Image.init()
    assert "EPS" in Image.OPEN
    assert "EPS" not in FORMATS
    assert set(KINDS) <= set(FORMATS)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), kind=st.sampled_from((*KINDS, "AVIF")))
def test_damaged_images_never_raise_anything_else(data: Any, kind: str) -> None:
    """Decoders raise nearly anything for wrong bytes; all of it is about one row."""
    damaged = bytearray(IMAGES[kind])
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, min(300, len(damaged)) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    length = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    with suppress(ImageUnreadable):
        fetch(bytes(damaged[:length]))


def _image_of(kind: str) -> bytes:
    buffer = io.BytesIO()
    try:
        picture(0, (40, 30)).save(buffer, format=kind)
    except KeyError:  # this Pillow was built without it
        return encoded(picture(0))
    return buffer.getvalue()


IMAGES = {kind: _image_of(kind) for kind in (*KINDS, "AVIF")}


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(0)))
    gate = threading.Barrier(8)

    def read(number: int) -> bytes:
        gate.wait(timeout=30)
        return fetch_uri("a.png", tmp_path).tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(8))) == {picture(0).tobytes()}
