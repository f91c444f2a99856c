"""One record on its way into a manifest: its cells by column, and where it was found."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from manifests.errors import ManifestError

OpenFile = Callable[[str], BinaryIO]
_SHOWN_CHARACTERS = 20


@dataclass(frozen=True, slots=True)
class Record:
    """``where`` names file and line for messages; ``source_uri`` is the file that relative image paths start at.

    ``image_bytes`` is the size of the file that ``image`` names, if it was looked up.
    """

    cells: dict[str, Any]
    where: str
    source_uri: str = field(default="", repr=False)
    image_bytes: int | None = field(default=None, repr=False)

    def with_cells(self, cells: dict[str, Any]) -> "Record":
        """The same place with other cells."""
        return replace(self, cells=cells)


@contextmanager
def open_text(uri: str, open_file: OpenFile) -> Iterator[io.TextIOWrapper]:
    """A text file in UTF-8, with or without a byte order mark; line ends are left to the reader.

    Raises:
        ManifestError: While it is read, if it is not UTF-8; it names the line.
    """
    with open_file(uri) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        try:
            yield text
        except UnicodeDecodeError as error:
            raise ManifestError(f"{uri}{_undecodable_line(uri, open_file)}: save the file as UTF-8") from error


def _undecodable_line(uri: str, open_file: OpenFile) -> str:
    """Where and what the first bytes are that are not UTF-8; a decoder only tells their place in what it read last."""
    with open_file(uri) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                before = line[: error.start].decode()[-_SHOWN_CHARACTERS:]
                return f", line {number}: not text in UTF-8, the byte 0x{line[error.start]:02x} follows {before!r}"
    return " is not text in UTF-8"
