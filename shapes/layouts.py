"""Where pieces go when a prompt does not say: one place each, so that the image is decided by the prompt.

Only training targets follow it. Any other placement that fits the prompt is as right for the verifier.
"""

from shapes.world import Board, Cell


def canonical_cells(board: Board, num_pieces: int) -> list[Cell]:
    """Cells for up to four pieces in the order in which they are named: the middle row from the left, then the next."""
    middle = (board.rows - 1) // 2
    cells = [(row, column) for row in (middle, middle + 1) for column in range(board.columns)]
    return cells[:num_pieces]


def related_cells(board: Board, relation: str) -> tuple[Cell, Cell]:
    """Neighbouring cells in the middle of the board for two pieces, the first of which is ``relation`` the second."""
    row, column = (board.rows - 1) // 2, (board.columns - 1) // 2
    here = (row, column)
    return {
        "left of": (here, (row, column + 1)),
        "right of": ((row, column + 1), here),
        "above": (here, (row + 1, column)),
        "below": ((row + 1, column), here),
    }[relation]


def is_related(first: Cell, relation: str, second: Cell) -> bool:
    """Whether two cells stand in a relation: in one row for left and right, in one column for above and below."""
    if relation in ("left of", "right of"):
        is_before = first[1] < second[1] if relation == "left of" else first[1] > second[1]
        return first[0] == second[0] and is_before
    is_before = first[0] < second[0] if relation == "above" else first[0] > second[0]
    return first[1] == second[1] and is_before
