"""Image files of every common format, mutated, fetched as a worker fetches them."""

import random

from PIL import Image

from manifests.row.images import ImageSource
from pipeline.images.decoder import ImageUnreadable
from pipeline.images.inputs import ImageFetcher
from pipeline.protocol.source_policy import SourcePolicy
from tests.fuzz.mutation import mutated, with_right_checksums
from tests.support.manifest_rows import encoded, picture

POLICY = SourcePolicy(max_pixels=2**20, max_bytes=2**22, decode_timeout_s=20.0, decode_memory_bytes=2**30)


class ImageCases:
    """One fetcher for all cases; ``run`` tells in a word what became of one."""

    def __init__(self) -> None:
        self._fetcher = ImageFetcher(POLICY)
        self._files = _files()

    def run(self, rng: random.Random) -> str:
        """Whatever is raised but ``ImageUnreadable`` is a finding."""
        kind, data = rng.choice(self._files)
        data = mutated(data, [other for _, other in self._files], rng)
        if kind == "PNG" and rng.random() < 0.7:
            data = with_right_checksums(data)
        try:
            self._fetcher.fetch(ImageSource(data=data, name="image"), "unused", keeps_mode=rng.random() < 0.2)
        except ImageUnreadable as error:
            return f"{kind} {_word(str(error))}"
        return f"{kind} read"

    def close(self) -> None:
        self._fetcher.close()


def _word(message: str) -> str:
    words = {"ends the process": "crash", "takes too long": "timeout", "too much memory": "memory"}
    return next((word for part, word in words.items() if part in message), "refused")


def _files() -> list[tuple[str, bytes]]:
    photo, gray = picture(1, (96, 64)), picture(2, (60, 80)).convert("L")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    frames = [picture(number, (40, 30)) for number in range(3)]
    return [
        ("JPEG", encoded(photo, "JPEG", quality=80, exif=exif)),
        ("JPEG", encoded(photo, "JPEG", progressive=True, subsampling=0)),
        ("JPEG", encoded(photo.convert("CMYK"), "JPEG")),
        ("PNG", encoded(photo, "PNG", exif=exif)),
        ("PNG", encoded(photo.quantize(16), "PNG")),
        ("PNG", encoded(photo.convert("RGBA"), "PNG")),
        ("PNG", encoded(gray, "PNG")),
        ("WEBP", encoded(photo, "WEBP", quality=70, exif=exif)),
        ("WEBP", encoded(photo.convert("RGBA"), "WEBP", lossless=True)),
        ("AVIF", encoded(photo, "AVIF", quality=60)),
        ("TIFF", encoded(photo, "TIFF", compression="tiff_deflate")),
        ("TIFF", encoded(photo, "TIFF", compression="tiff_lzw")),
        ("TIFF", encoded(photo, "TIFF", compression="jpeg")),
        ("TIFF", encoded(gray.convert("1"), "TIFF", compression="group4")),
        ("GIF", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])),
    ]
