"""Canonical placements of prompts without cells."""

import pytest

from shapes.layouts import canonical_cells, is_related, related_cells
from shapes.phrases import RELATIONS
from shapes.world import BOARDS, Board

ALL_BOARDS = (*BOARDS, Board(5, 5), Board(6, 6))


@pytest.mark.parametrize("board", ALL_BOARDS)
def test_a_layout_gives_up_to_four_different_cells_of_the_board(board: Board) -> None:
    for number in range(1, 5):
        cells = canonical_cells(board, number)
        assert len(set(cells)) == number
        assert set(cells) <= set(board.cells)


@pytest.mark.parametrize("board", ALL_BOARDS)
def test_related_cells_stand_in_their_relation_and_in_no_other(board: Board) -> None:
    for relation in RELATIONS:
        cells = related_cells(board, relation)
        assert set(cells) <= set(board.cells)
        assert [name for name in RELATIONS if is_related(cells[0], name, cells[1])] == [relation]
