"""Reading captions and answers by their meaning: wording, order and punctuation do not matter, a wrong fact does."""

import re
from collections import Counter
from dataclasses import dataclass

from shapes.phrases import NUMBERS
from shapes.world import COLOURS, SHAPES, STYLES, Cell, Piece, named_cell

_FILLERS = {"the", "and", "with", "on", "in", "at", "of", "is", "are", "there", "it", "image", "picture", "shows"}
_FILLERS |= {"showing", "background", "cell", "object", "objects"}
_NAMES = {
    **{word: word for word in (*COLOURS, *STYLES, "yes", "no", "first", "second", "neither", "nothing")},
    **{"none": "nothing", "empty": "nothing"},
    **{word: word for word in ("left", "right", "above", "below")},
}
"""Words that are an answer, with the answer's usual wording."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a caption says; ``cells`` holds the pieces whose cell is said."""

    counts: Counter[Piece]
    cells: dict[Cell, Piece]
    style: str | None


def read_caption(text: str) -> Description | None:
    """What a caption says; None if it says nothing, contradicts itself, or has a word that is not understood."""
    words = _words(text)
    counts: Counter[Piece] = Counter()
    cells: dict[Cell, Piece] = {}
    styles: set[str] = set()
    number = 1
    while words:
        if (piece := _piece(words)) is not None:
            words = words[2:]
            counts[piece] += number
            if (cell := _cell_after(words)) is not None:
                if number != 1 or cell in cells:
                    return None
                cells[cell] = piece
                words = words[2:]
            number = 1
            continue
        word = words.pop(0)
        if word in STYLES:
            styles.add(word)
        elif (said := _number(word)) is not None:
            number = said
        elif word not in _FILLERS:
            return None
    return Description(counts, cells, next(iter(styles), None)) if counts and len(styles) < 2 else None


def read_answer(text: str) -> frozenset[str]:
    """What an answer says, each fact in one wording; nothing if no fact is found.

    ``Yes, there is.`` is ``yes``, ``3`` is ``three``, ``It is a red circle`` is ``red circle``, ``two, at b3 and c1``
    is ``two``, ``b3`` and ``c1``.
    """
    words = _words(text)
    found: set[str] = set()
    while words:
        if (piece := _piece(words)) is not None:
            found.add(f"{piece.colour} {piece.shape}")
            words = words[2:]
            continue
        word = words.pop(0)
        if word in _NAMES:
            found.add(_NAMES[word])
        elif named_cell(word) is not None:
            found.add(word)
        elif word not in ("a", "an") and (number := _number(word)) is not None:
            found.add(NUMBERS[number] if number < len(NUMBERS) else str(number))
    return frozenset(found)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _piece(words: list[str]) -> Piece | None:
    """The piece that the first two words name."""
    if len(words) < 2 or words[0] not in COLOURS:
        return None
    shape = words[1].removesuffix("s")
    return Piece(words[0], shape) if shape in SHAPES else None


def _cell_after(words: list[str]) -> Cell | None:
    """The cell that the first two words name, as in ``at b3``."""
    return named_cell(words[1]) if len(words) >= 2 and words[0] in ("at", "in") else None


def _number(word: str) -> int | None:
    if word in ("a", "an"):
        return 1
    if word in NUMBERS:
        return NUMBERS.index(word)
    return int(word) if word.isdecimal() else None
