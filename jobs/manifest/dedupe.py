"""Duplicates, found with a table on disk so that memory does not grow with the manifest.

Images that look alike, though scaled or compressed again, have perceptual hashes that differ in few bits.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

HASH_BITS = 64
MAX_COLOR_DIFFERENCE = 12
"""Of the mean of a channel, from 0 to 255: shapes of another colour are another picture."""

_SIDE, _FREQUENCIES = 32, 8
_LEAST_DETAIL = 16.0  # a wave of about one grey level, which compression neither makes nor removes


@dataclass(frozen=True, slots=True)
class ImageHash:
    """``bits`` from the image's brightness, ``color`` its mean red, green and blue."""

    bits: int
    color: tuple[int, int, int]

    def is_like(self, other: "ImageHash", max_distance: int) -> bool:
        """Whether the two differ in at most so many bits, and hardly in colour."""
        differences = (abs(ours - theirs) for ours, theirs in zip(self.color, other.color, strict=True))
        return (self.bits ^ other.bits).bit_count() <= max_distance and max(differences) <= MAX_COLOR_DIFFERENCE


def image_hash(image: Image.Image) -> ImageHash:
    """The hash of an RGB image.

    Source: the discrete cosine transform of 32x32 grey pixels; a bit for each of the 8x8 lowest frequencies, as in
    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2. Different: a bit
    is whether its coefficient is above a fixed bound, there above their median, which in smooth images is close to
    most of them; and the mean colour is kept too.
    """
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    basis = _cosines()
    lowest = (basis @ grey @ basis.T).ravel()
    is_above = lowest > _LEAST_DETAIL
    is_above[0] = False  # brightness; the mean colour has it
    bits = int.from_bytes(np.packbits(is_above).tobytes(), "big")
    red, green, blue = np.asarray(image.resize((1, 1), Image.Resampling.BOX)).reshape(-1).tolist()
    return ImageHash(bits, (red, green, blue))


def _cosines() -> npt.NDArray[np.float64]:
    """Rows of the orthonormal DCT-II for the lowest frequencies, (frequency, pixel)."""
    frequencies, pixels = np.arange(_FREQUENCIES)[:, None], np.arange(_SIDE)[None, :]
    basis = np.cos(np.pi * (2 * pixels + 1) * frequencies / (2 * _SIDE)) * np.sqrt(2 / _SIDE)
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, dtype=np.float64)


MAX_DISTANCE = 15


class Seen:
    """Digests, files and perceptual hashes of earlier rows, in a temporary database. Belongs to one thread."""

    def __init__(self, folder: Path, *, max_distance: int = 4) -> None:
        self._database = sqlite3.connect(folder / "seen.sqlite", isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE digest (value BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("CREATE TABLE file (uri TEXT PRIMARY KEY, size INT, digest BLOB, first TEXT)")
        self._database.execute("CREATE INDEX of_size ON file (size, digest)")
        self._database.execute("CREATE TABLE band (number INT, value INT, hash INT, red INT, green INT, blue INT)")
        self._database.execute("CREATE INDEX of_band ON band (number, value)")
        self._max_distance = max_distance
        # Two hashes that differ in at most n bits agree in at least one of n + 1 bands.
        bounds = [HASH_BITS * number // (max_distance + 1) for number in range(max_distance + 2)]
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in pairwise(bounds)]

    def add_digest(self, digest: str) -> bool:
        """Remember a digest in hexadecimal digits; whether it is new."""
        cursor = self._database.execute("INSERT OR IGNORE INTO digest VALUES (?)", (bytes.fromhex(digest),))
        return cursor.rowcount == 1

    def first_with_bytes(self, uri: str, size: int, digest_of: Callable[[str], str]) -> str:
        """The first file that was asked for and has the bytes of this one; itself if there was none.

        Files of one size are read, each once: ``digest_of`` gives a digest in hexadecimal digits.
        """
        one = self._database.execute
        if found := one("SELECT first FROM file WHERE uri = ?", (uri,)).fetchone():
            return str(found[0])
        digest, first = None, uri
        if one("SELECT 1 FROM file WHERE size = ?", (size,)).fetchone():
            for (unread,) in one("SELECT uri FROM file WHERE size = ? AND digest IS NULL", (size,)).fetchall():
                one("UPDATE file SET digest = ? WHERE uri = ?", (bytes.fromhex(digest_of(unread)), unread))
            digest = bytes.fromhex(digest_of(uri))
            same = one("SELECT first FROM file WHERE size = ? AND digest = ?", (size, digest)).fetchone()
            first = str(same[0]) if same else uri
        one("INSERT INTO file VALUES (?, ?, ?, ?)", (uri, size, digest, first))
        return first

    def add_image(self, image: ImageHash) -> bool:
        """Remember an image unless one like it was remembered before; whether it is new."""
        values = [(number, image.bits >> low & mask) for number, (low, mask) in enumerate(self._bands)]
        for number, value in values:
            found = self._database.execute(
                "SELECT hash, red, green, blue FROM band WHERE number = ? AND value = ?", (number, value)
            )
            for bits, *color in found:
                other = ImageHash(bits % 2**HASH_BITS, (color[0], color[1], color[2]))
                if image.is_like(other, self._max_distance):
                    return False
        signed = image.bits - (image.bits >> (HASH_BITS - 1)) * 2**HASH_BITS  # SQLite's integers have a sign
        self._database.executemany(
            "INSERT INTO band VALUES (?, ?, ?, ?, ?, ?)", [(*value, signed, *image.color) for value in values]
        )
        return True

    def close(self) -> None:
        """Forget them all."""
        self._database.close()
