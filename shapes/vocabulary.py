"""Every word that a prompt, a question or an answer of the world can hold, found from the templates themselves."""

import re
from collections.abc import Iterator

from dimoo_core.request import templates as prompts
from shapes import phrases
from shapes.world import COLOURS, MAX_SIDE, SHAPES, STYLES, cell_name

WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
"""A run of letters and digits, or one other sign."""

_SLOT = re.compile(r"\{(\w+)\}")


def sentences() -> list[str]:
    """Texts that never vary: system prompts and the requests for maps; one token each."""
    systems = [text for name, text in vars(prompts).items() if name.endswith("_SYSTEM")]
    return sorted({*systems, phrases.EDGE_REQUEST, phrases.SEGMENT_REQUEST})


def words_inside() -> list[str]:
    """Words and signs that come after the first word of a text."""
    literals = {word for template in _templates() for word in WORD.findall(_SLOT.sub(" ", template))}
    return sorted({word for word in literals if not word[0].isupper()} | _slot_words())


def first_words() -> list[str]:
    """Words that a text can start with, with a capital and without."""
    first = {"a", "an", "this", *phrases.NUMBERS[2:], *COLOURS}
    first |= {WORD.findall(template)[0] for template in _templates() if not template.startswith("{")}
    either_case = {form for word in first for form in (word.lower(), word.capitalize())}
    return sorted(either_case | _answer_starts())


def _templates() -> Iterator[str]:
    yield from (*phrases.PROMPTS, *phrases.PROMPTS_WITHOUT_STYLE, *phrases.SUBJECT_PROMPTS, phrases.CAPTION)
    for group in (phrases.EDITS, phrases.CAPTION_REQUESTS, phrases.QUESTIONS, phrases.RELATIONS):
        for templates in group.values():
            yield from templates


def _slot_words() -> set[str]:
    words = {"a", "an", "the", "this", "at", "and", ",", "object", "objects", *phrases.NUMBERS[1:], *_cells()}
    words |= {*phrases.FIRST.split()[1:], *phrases.SECOND.split()[1:]}
    return words | {*COLOURS, *STYLES, *SHAPES} | {f"{shape}s" for shape in SHAPES}


def _answer_starts() -> set[str]:
    words = {phrases.YES, phrases.NO, phrases.NOTHING, phrases.NEITHER, "a", "an", *phrases.NUMBERS}
    return words | {phrases.FIRST.split()[0], *COLOURS, *STYLES, *_cells()}


def _cells() -> set[str]:
    return {cell_name((row, column)) for row in range(MAX_SIDE) for column in range(MAX_SIDE)}
