"""What can be on a board: pieces, backgrounds, cells. No pixels, no words, no randomness."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle", "star", "heart")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
STYLES = ("paper", "sky", "night")
"""Backgrounds; each also draws the pieces in its own way."""

DEFAULT_STYLE = "paper"
"""The background of a prompt that names none."""

MAX_SIDE = 6
"""Largest number of rows or columns that has cell names."""

Cell = tuple[int, int]
"""Row and column, from 0 at the upper left."""


@dataclass(frozen=True, slots=True, order=True)
class Piece:
    """One object; it fills one cell."""

    colour: str
    shape: str


PIECES = tuple(Piece(colour, shape) for shape in SHAPES for colour in COLOURS)


@dataclass(frozen=True, slots=True)
class Board:
    """Size of a scene in cells; one cell is one tile of pixels and one image token."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if not (1 <= self.rows <= MAX_SIDE and 1 <= self.columns <= MAX_SIDE):
            raise ValueError(f"a board has 1 to {MAX_SIDE} rows and columns, got {self.rows}x{self.columns}")

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells in reading order."""
        return tuple((row, column) for row in range(self.rows) for column in range(self.columns))


BOARDS = (Board(5, 3), Board(4, 4))
"""Boards of the embedded model, rows by columns.

Both are 20 tokens with their newlines, so that a cell of an input image is equally far from its place in the output on
both: to find it is then learned in minutes.
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Pieces on a board; ``placed`` is in reading order and holds a cell at most once."""

    board: Board
    style: str
    placed: tuple[tuple[Cell, Piece], ...]

    @classmethod
    def of(cls, board: Board, style: str, pieces: Mapping[Cell, Piece]) -> "Scene":
        """The scene with these pieces.

        Raises:
            ValueError: If a cell is not on the board, or the style is unknown.
        """
        if style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}, got {style!r}")
        for row, column in pieces:
            if not (0 <= row < board.rows and 0 <= column < board.columns):
                raise ValueError(f"cell ({row}, {column}) is not on a board of {board.rows}x{board.columns}")
        return cls(board, style, tuple(sorted(pieces.items())))

    @property
    def pieces(self) -> dict[Cell, Piece]:
        """Pieces by cell, in reading order."""
        return dict(self.placed)

    @property
    def counts(self) -> Counter[Piece]:
        """How many there are of each piece, in order of first appearance."""
        return Counter(piece for _, piece in self.placed)

    @property
    def empty_cells(self) -> tuple[Cell, ...]:
        """Cells without a piece, in reading order."""
        taken = {cell for cell, _ in self.placed}
        return tuple(cell for cell in self.board.cells if cell not in taken)

    def with_piece(self, cell: Cell, piece: Piece) -> "Scene":
        """The same scene with ``piece`` at ``cell``, whatever was there."""
        return Scene.of(self.board, self.style, {**self.pieces, cell: piece})

    def without(self, cell: Cell) -> "Scene":
        """The same scene with nothing at ``cell``."""
        return Scene(self.board, self.style, tuple(entry for entry in self.placed if entry[0] != cell))

    def on(self, style: str) -> "Scene":
        """The same pieces on another background."""
        return Scene.of(self.board, style, self.pieces)


def cell_name(cell: Cell) -> str:
    """As on a chess board, counted from the upper left: row 2, column 1 is ``b3``."""
    row, column = cell
    return f"{'abcdef'[column]}{row + 1}"


def named_cell(name: str) -> Cell | None:
    """The cell of a name, None if it is no cell's name."""
    if len(name) != 2 or name[0] not in "abcdef" or name[1] not in "123456":
        return None
    return int(name[1]) - 1, "abcdef".index(name[0])
