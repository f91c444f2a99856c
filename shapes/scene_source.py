"""Random pieces, boards and scenes within what a split may show."""

from collections.abc import Collection
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from shapes.split import HELD_OUT_PIECE, HELD_OUT_PROMPTED_PIECE
from shapes.world import BOARDS, COLOURS, PIECES, SHAPES, STYLES, Board, Cell, Piece, Scene

HeldOut = Literal["piece", "prompted piece", "relation"]
"""Which of the held-out combinations an example is to show; see ``split``."""


_ALLOWED = tuple(piece for piece in PIECES if piece != HELD_OUT_PIECE)
_ALLOWED_IN_PROMPTS = tuple(piece for piece in _ALLOWED if piece != HELD_OUT_PROMPTED_PIECE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """How large and how varied examples are."""

    boards: tuple[Board, ...] = BOARDS
    max_pieces: int = 2
    held_out: HeldOut | None = None


@dataclass(slots=True)
class SceneSource:
    """Random parts of one example. A held-out piece comes first if asked for, and else never."""

    rng: Random
    options: SampleOptions
    is_prompt: bool  # whether the task describes its target in a text-to-image prompt
    _is_due: bool = field(init=False)
    _allowed: tuple[Piece, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._is_due = self.options.held_out in ("piece", "prompted piece")
        self._allowed = _ALLOWED_IN_PROMPTS if self.is_prompt else _ALLOWED

    def board(self) -> Board:
        """Any board."""
        return self.rng.choice(self.options.boards)

    def style(self, *others: str) -> str:
        """Any background but ``others``."""
        return self.rng.choice([style for style in STYLES if style not in others])

    def may_show(self, piece: Piece) -> bool:
        """Whether the piece is not held out."""
        return piece in self._allowed

    def piece(self, unlike: Collection[Piece] = ()) -> Piece:
        """Any piece that is allowed and not in ``unlike``; the held-out one first, if one is asked for."""
        if self._is_due:
            self._is_due = False
            return HELD_OUT_PIECE if self.options.held_out == "piece" else HELD_OUT_PROMPTED_PIECE
        while (piece := self.rng.choice(self._allowed)) in unlike:
            pass
        return piece

    def recoloured(self, piece: Piece) -> Piece:
        """The same shape in another allowed colour."""
        return self._changed(piece, [Piece(colour, piece.shape) for colour in COLOURS])

    def reshaped(self, piece: Piece) -> Piece:
        """The same colour in another allowed shape."""
        return self._changed(piece, [Piece(piece.colour, shape) for shape in SHAPES])

    def num_pieces(self, least: int = 1) -> int:
        """From ``least`` to the largest number of pieces, each as often."""
        return self.rng.randint(least, max(least, self.options.max_pieces))

    def pieces(self, number: int) -> list[Piece]:
        """So many pieces; one in four repeats an earlier one."""
        pieces: list[Piece] = []
        while len(pieces) < number:
            is_repeat = pieces and self.rng.random() < 0.25
            pieces.append(self.rng.choice(pieces) if is_repeat else self.piece())
        return pieces

    def cells(self, board: Board, number: int) -> list[Cell]:
        """So many different cells."""
        return self.rng.sample(board.cells, number)

    def scene(self, *, board: Board | None = None, style: str | None = None, least: int = 1) -> Scene:
        """Any scene with at least so many pieces."""
        board = board or self.board()
        pieces = self.pieces(self.num_pieces(least))
        return self.scene_of(board, style or self.style(), pieces)

    def scene_of(self, board: Board, style: str, pieces: Collection[Piece]) -> Scene:
        """These pieces at any cells."""
        return Scene.of(board, style, dict(zip(self.cells(board, len(pieces)), pieces, strict=True)))

    def _changed(self, piece: Piece, options: list[Piece]) -> Piece:
        return self.rng.choice([option for option in options if option != piece and self.may_show(option)])
