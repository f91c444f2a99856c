"""Reads one cell of a row: the right Python type, or an error that names column, value and fix.

None is a null cell and passes through; ``row`` decides whether a column may be null.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from manifests.errors import ManifestRowError

MAX_EXACT_FLOAT = 2**53
"""Beyond this a float cannot distinguish neighbouring integers."""

MAX_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class UndecodableText:
    """A text cell whose bytes are not UTF-8. Parquet readers do not check, so only the row's own parsing finds it."""

    data: bytes


def short_repr(value: object) -> str:
    """The value as an error message shows it: one line, shortened."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."


def has_control_characters(text: str) -> bool:
    """Whether the text holds line breaks, NUL or other characters that break names and logs."""
    return not text.isprintable() and any(
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text
    )


def text_cell(column: str, value: object) -> str | None:
    """A text cell, not stripped.

    Raises:
        ManifestRowError: The cell is not text, not UTF-8, or has nothing but white space.
    """
    if value is None:
        return None
    if isinstance(value, UndecodableText):
        raise ManifestRowError(f"{column} must be text in UTF-8, got the bytes {short_repr(value.data)}")
    if not isinstance(value, str):
        raise ManifestRowError(f"{column} must be text, got {short_repr(value)}")
    if not value.strip():
        raise ManifestRowError(
            f"{column} must not be empty, got {short_repr(value)}: give text, or null for the default"
        )
    return value


def texts_cell(column: str, value: object) -> tuple[str, ...] | None:
    """A cell with a list of at least one text.

    Raises:
        ManifestRowError: The cell is no list, an empty one, or one of its items is not text with a word in it.
    """
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise ManifestRowError(f"{column} must be a list of texts, got {short_repr(value)}: give [text, ...]")
    texts = tuple(text_cell(f"{column}[{index}]", each) for index, each in enumerate(value))
    if None in texts:
        raise ManifestRowError(f"{column}[{texts.index(None)}] must be text, got None: leave it out")
    return tuple(text for text in texts if text is not None)


def whole_cell(column: str, value: object) -> int | None:
    """An integer cell; floats with whole values count, since pandas turns integers with nulls into floats.

    Raises:
        ManifestRowError: The cell is no number, a boolean, not whole, or a float too large to be exact.
    """
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        if abs(value) > MAX_EXACT_FLOAT:
            fix = "store the column as integers, a float this large is not exact"
            raise ManifestRowError(f"{column} must be a whole number, got {short_repr(value)}: {fix}")
        return int(value)
    raise ManifestRowError(f"{column} must be one whole number or null, got {short_repr(value)}")


def number_cell(column: str, value: object) -> float | None:
    """A float cell; integers count.

    Raises:
        ManifestRowError: The cell is no number, a boolean, NaN or infinite.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise ManifestRowError(f"{column} must be one finite number or null, got {short_repr(value)}")


def numbers_cell(column: str, value: object, meanings: Sequence[str]) -> tuple[float, ...] | None:
    """A cell with a list of numbers, one for each of ``meanings``.

    Raises:
        ManifestRowError: The cell is no list of so many finite numbers.
    """
    if value is None:
        return None
    wanted = f"[{', '.join(meanings)}]"
    if isinstance(value, list) and len(value) == len(meanings) and all(number is not None for number in value):
        numbers = tuple(number_cell(f"{column}: {name}", each) for name, each in zip(meanings, value, strict=True))
        return tuple(number for number in numbers if number is not None)
    raise ManifestRowError(
        f"{column} must be a list of {len(meanings)} numbers, got {short_repr(value)}: give {wanted}"
    )
