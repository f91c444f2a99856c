"""The table of tiles: codes, pixels and scenes belong together one to one."""

import numpy as np
import pytest

from shapes.tile import EDGES, NUM_CODES, SEGMENTS, TILES, codes_scene, map_codes, render, scene_codes, tile_pixels
from shapes.world import BOARDS, PIECES, STYLES, Board, Piece, Scene, cell_name, named_cell


def test_every_code_has_one_tile_and_no_two_tiles_look_alike() -> None:
    pixels = tile_pixels().astype(float) / 255
    assert len(set(TILES)) == len(TILES) <= NUM_CODES
    for code in range(len(TILES)):
        others = np.delete(pixels, code, axis=0)
        assert np.sqrt(np.square(others - pixels[code]).mean(axis=(1, 2, 3))).min() > 0.08


def test_codes_of_a_scene_give_back_the_scene() -> None:
    for index, board in enumerate(BOARDS):
        pieces = dict(zip(board.cells, PIECES[5 * index :], strict=False))
        for style in STYLES:
            scene = Scene.of(board, style, pieces)
            assert codes_scene(scene_codes(scene)) == scene


def test_maps_and_mixed_backgrounds_and_unused_codes_are_no_scenes() -> None:
    scene = Scene.of(Board(3, 3), "sky", {(0, 1): Piece("red", "star")})
    mixed = scene_codes(scene)
    mixed[2, 2] = scene_codes(scene.on("night"))[2, 2]
    unused = scene_codes(scene)
    unused[0, 0] = NUM_CODES - 1
    for codes in (map_codes(scene, EDGES), map_codes(scene, SEGMENTS), mixed, unused):
        assert codes_scene(codes) is None


def test_an_image_has_sixteen_pixels_a_cell_and_its_tiles_where_the_scene_has_pieces() -> None:
    scene = Scene.of(Board(3, 4), "night", {(1, 3): Piece("blue", "heart")})
    image = render(scene)
    empty = render(scene.without((1, 3)))
    assert image.shape == (48, 64, 3)
    assert {(y // 16, x // 16) for y, x, _ in np.argwhere(image != empty)} == {(1, 3)}


def test_cells_are_named_by_column_letter_and_row_number() -> None:
    assert cell_name((2, 1)) == "b3"
    assert all(named_cell(cell_name(cell)) == cell for cell in Board(6, 6).cells)
    assert [named_cell(name) for name in ("b", "3b", "b7", "g1", "b33")] == [None] * 5


def test_a_scene_with_a_piece_off_the_board_is_refused() -> None:
    with pytest.raises(ValueError, match="not on a board of 3x3"):
        Scene.of(Board(3, 3), "sky", {(3, 0): Piece("red", "star")})
