"""One problem with the output of a run, reported in a line, and what damage to an object is called."""

import json
from dataclasses import asdict, dataclass

import pyarrow as pa

from pipeline.storage.errors import ObjectNotFound, StoreError

CONTENT_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError, StoreError)
"""What reading a damaged file may raise; a store that is out of reach is among it, see ``damage_of``."""


def damage_of(error: Exception) -> str:
    """The damage of an object whose reading raised ``error``.

    Raises:
        Exception: ``error`` itself, if it is not about the object but about memory or a store that is out of reach.
    """
    if isinstance(error, ObjectNotFound):
        return "nothing"
    if isinstance(error, MemoryError) or (isinstance(error, StoreError) and error.retryable):
        raise error
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what ought to be there by the rules of the output, and what is.

    Attributes:
        expected: What it ought to be.
        found: What it is.
        part: Key of the part that is about the object, where the object itself is none.
    """

    object: str
    what: str
    expected: str
    found: str
    part: str | None = None

    def __str__(self) -> str:
        return one_line(f"{self.object}: {self.what}: expected {_short(self.expected)}, found {_short(self.found)}")

    def to_json(self) -> str:
        """A line for programs."""
        return json.dumps({"finding": asdict(self)})


def one_line(text: str) -> str:
    """Escape what is not printable: names and texts come from users and may hold line breaks."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def row_span(first: int, last: int) -> str:
    """``row 3`` or ``rows 3 to 5``."""
    return f"row {first}" if first == last else f"rows {first} to {last}"


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
