"""The words of the world: every template of a prompt, an instruction, a question and an answer, and noun phrases.

Templates are data, so that the tokenizer can be made from all of them (see ``vocabulary``).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from dimoo_core.request.templates import MATCH_QUESTION
from shapes.world import Cell, Piece, cell_name

NUMBERS = ("zero", "one", "two", "three", "four")

PROMPTS = (
    "{pieces} on a {style} background",
    "{pieces}, {style} background",
    "Draw {pieces} on a {style} background.",
    "A {style} background with {pieces}.",
)
PROMPTS_WITHOUT_STYLE = ("{pieces}", "Draw {pieces}.", "An image of {pieces}.")

RELATIONS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above",),
    "below": ("below",),
}
"""Each relation with its wordings."""

CONVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

EDITS = {
    "recolour": ("Make {target} {colour}.", "Recolour {target} to {colour}.", "Paint {target} {colour}."),
    "reshape": ("Turn {target} into a {shape}.", "Replace {target} with a {shape}.", "Change {target} to a {shape}."),
    "remove": ("Remove {target}.", "Delete {target}.", "Erase {target}."),
    "add": ("Add {piece} at {cell}.", "Put {piece} at {cell}.", "Place {piece} at {cell}."),
    "move": ("Move {target} to {cell}.", "Put {target} at {cell}."),
    "background": ("Change the background to {style}.", "Make the background {style}.", "Use a {style} background."),
}
SUBJECT_PROMPTS = ("Put {pieces} on a {style} background.", *PROMPTS)
EDGE_REQUEST = "Generate a canny edge map according to the image."
SEGMENT_REQUEST = "Generate a sam2 mask according to the image."

CAPTION_REQUESTS = {
    "short": ("Describe the image briefly.", "Write a short caption.", "What does the image show?"),
    "detailed": ("Describe the image in detail.", "Write a detailed caption.", "List each object and its cell."),
}
CAPTION = "{pieces} on a {style} background"

QUESTIONS = {
    "existence": ("Is there {one}?", "Is there {one} in the image?"),
    "count": ("How many {many} are there?", "How many {many} does the image show?", "Count the {many}."),
    "colour": ("What colour is {target}?", "What is the colour of {target}?", "What color is {target}?"),
    "content": ("What is at {cell}?", "Which object is at {cell}?"),
    "place": ("Where is {target}?", "In which cell is {target}?", "At which cell is {target}?"),
    "relation": ("Is {target} {relation} {other}?",),
    "background": ("What is the background?", "Which background does the image have?"),
    "match": (MATCH_QUESTION.format(prompt="{one}"),),
    "same": ("Do the images show the same objects?", "Are the objects of the two images the same?"),
    "more": ("Which image has more {many}?", "Which image shows more {many}?"),
}
YES, NO, NOTHING = "yes", "no", "nothing"
FIRST, SECOND, NEITHER = "the first", "the second", "neither"


class Choice(Protocol):
    """A source of random choices, such as ``random.Random``."""

    def choice(self, options: Sequence[str], /) -> str:
        """One of the options."""

    def random(self) -> float:
        """A number in [0, 1)."""


def kind(colour: str | None, shape: str | None) -> str:
    """``red circle``, ``circle`` or, of any shape, ``red object``."""
    noun = shape or "object"
    return f"{colour} {noun}" if colour else noun


def named(piece: Piece) -> str:
    """``red circle``."""
    return kind(piece.colour, piece.shape)


def with_article(name: str) -> str:
    """``a red circle``, ``an orange star``."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def counted(name: str, number: int) -> str:
    """``a red circle``, ``two red circles``."""
    return with_article(name) if number == 1 else f"{NUMBERS[number]} {name}s"


def listed(phrases: Sequence[str]) -> str:
    """``x``, ``x and y``, ``x, y and z``."""
    *others, last = phrases
    return f"{', '.join(others)} and {last}" if others else last


def counted_list(counts: Mapping[str, int] | Counter[str]) -> str:
    """``two red circles and a blue star``, in the mapping's order."""
    return listed([counted(name, number) for name, number in counts.items()])


def at_cell(name: str, cell: Cell) -> str:
    """``a red circle at b3``."""
    return f"{name} at {cell_name(cell)}"


def placed_list(placed: Iterable[tuple[Cell, Piece]], *, has_articles: bool = True) -> str:
    """``a red circle at b3 and a blue star at c1``, in the order given; or the same without articles."""
    names = [(cell, named(piece)) for cell, piece in placed]
    return listed([at_cell(with_article(name) if has_articles else name, cell) for cell, name in names])


def prompt(rng: Choice, pieces: str, style: str | None) -> str:
    """A text-to-image prompt in one of its phrasings; one without a style means the default."""
    return phrased(rng, PROMPTS_WITHOUT_STYLE if style is None else PROMPTS, pieces, style)


def phrased(rng: Choice, templates: Sequence[str], pieces: str, style: str | None) -> str:
    """One of the templates, filled in, as people write it."""
    return as_written(rng, rng.choice(templates).format(pieces=pieces, style=style))


def as_written(rng: Choice, text: str) -> str:
    """The text with or without a capital, and the full stop that goes with it; one in five is changed."""
    if rng.random() < 0.8:
        return text
    if text[0].isupper():
        return text[0].lower() + text[1:].removesuffix(".")
    return f"{text[0].upper()}{text[1:]}."
