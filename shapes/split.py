"""Which scenes belong to training, tuning and test, and which combinations training never shows."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

from shapes.world import Piece, Scene

Split = Literal["train", "tune", "test"]
SPLITS: tuple[Split, ...] = ("train", "tune", "test")

HELD_OUT_PIECE = Piece("purple", "star")
"""In no training example of any task, neither pictured nor named."""

HELD_OUT_PROMPTED_PIECE = Piece("green", "heart")
"""Pictured and named in training, but never in a text-to-image prompt: is it drawn from words all the same?"""

HELD_OUT_RELATION = ("triangle", "above", "heart")
"""In no training prompt, neither so nor the other way round (heart below triangle)."""

_TUNE_PERCENT, _TEST_PERCENT = 10, 10


def split_of(scene: Scene) -> Split:
    """The split that a scene belongs to, from its contents: 80% train, 10% tune, 10% test.

    The same scene belongs to the same split whatever task or seed it comes up in, so no scene crosses.
    """
    return split_of_key(scene_key(scene))


def scene_key(scene: Scene) -> str:
    """A text that is the same for equal scenes only."""
    pieces = ";".join(f"{row},{column},{piece.colour},{piece.shape}" for (row, column), piece in scene.placed)
    return f"{scene.board.rows}x{scene.board.columns}:{scene.style}:{pieces}"


def split_of_key(key: str) -> Split:
    """The split of whatever the key stands for."""
    bucket = int.from_bytes(blake2b(key.encode(), digest_size=4).digest(), "big") % 100
    if bucket < _TUNE_PERCENT:
        return "tune"
    return "test" if bucket < _TUNE_PERCENT + _TEST_PERCENT else "train"


def has_held_out_piece(pieces: Iterable[Piece]) -> bool:
    """Whether the piece that training never shows is among these."""
    return HELD_OUT_PIECE in pieces


def is_held_out(scene: Scene) -> bool:
    """Whether the scene has the piece that training never shows."""
    return has_held_out_piece(scene.counts)
