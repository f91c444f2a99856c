"""What has been seen before, kept on disk so that memory does not grow with the manifest."""

import sqlite3
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from manifests.builder.image_hash import HASH_BITS, ImageHash

MAX_DISTANCE = 15


class Seen:
    """Digests and perceptual hashes of earlier rows, in a temporary database. Belongs to one thread."""

    def __init__(self, folder: Path, *, max_distance: int = 4) -> None:
        self._database = sqlite3.connect(folder / "seen.sqlite", isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE digest (value BLOB PRIMARY KEY) WITHOUT ROWID")
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()
