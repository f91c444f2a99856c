"""The table of tiles: one code for each distinct tile, fixed by construction; scenes to codes to pixels and back."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from shapes.drawing import TILE_PX, draw_black, draw_edge, draw_empty, draw_piece, draw_segment
from shapes.world import COLOURS, SHAPES, STYLES, Board, Cell, Piece, Scene

EDGES, SEGMENTS = "edges", "segments"
"""The two map families beside the backgrounds."""

Codes = NDArray[np.int64]
"""A grid of codes, (rows, columns)."""

Pixels = NDArray[np.uint8]
"""An image, (height, width, 3)."""


@dataclass(frozen=True, slots=True)
class Tile:
    """What one code shows; a map's shapes have no colour, and the two maps share their black empty tile."""

    family: str
    shape: str | None = None
    colour: str | None = None


def _all_tiles() -> tuple[Tile, ...]:
    tiles: list[Tile] = []
    for style in STYLES:
        tiles.append(Tile(style))
        tiles += [Tile(style, shape, colour) for shape in SHAPES for colour in COLOURS]
    tiles += [Tile(EDGES, shape) for shape in (None, *SHAPES)]
    tiles += [Tile(SEGMENTS, shape) for shape in SHAPES]
    return tuple(tiles)


TILES = _all_tiles()
"""The tile of each code."""

NUM_CODES = 128
"""Size of the codebook; codes from ``len(TILES)`` on are unused."""

CODE_OF = {tile: code for code, tile in enumerate(TILES)}


@cache
def tile_pixels() -> Pixels:
    """All tiles, (tiles, 16, 16, 3), read-only."""
    pixels = np.stack([_draw(tile) for tile in TILES])
    pixels.setflags(write=False)
    return pixels


def _draw(tile: Tile) -> Pixels:
    if tile.family == EDGES:
        return draw_black() if tile.shape is None else draw_edge(tile.shape)
    if tile.family == SEGMENTS:
        assert tile.shape is not None
        return draw_segment(tile.shape)
    if tile.shape is None or tile.colour is None:
        return draw_empty(tile.family)
    return draw_piece(tile.family, tile.shape, tile.colour)


def scene_codes(scene: Scene) -> Codes:
    """The scene as a grid of codes."""
    codes = np.full((scene.board.rows, scene.board.columns), CODE_OF[Tile(scene.style)], dtype=np.int64)
    for cell, piece in scene.placed:
        codes[cell] = CODE_OF[Tile(scene.style, piece.shape, piece.colour)]
    return codes


def map_codes(scene: Scene, family: str) -> Codes:
    """The edge map (``EDGES``) or segmentation map (``SEGMENTS``) of a scene as a grid of codes."""
    codes = np.full((scene.board.rows, scene.board.columns), CODE_OF[Tile(EDGES)], dtype=np.int64)
    for cell, piece in scene.placed:
        codes[cell] = CODE_OF[Tile(family, piece.shape)]
    return codes


def codes_scene(codes: Codes) -> Scene | None:
    """The scene of a grid of codes, None if it is none: several backgrounds, map tiles or unused codes."""
    if codes.min() < 0 or codes.max() >= len(TILES):
        return None
    pieces: dict[Cell, Piece] = {}
    families: set[str] = set()
    for (row, column), code in np.ndenumerate(codes):
        tile = TILES[code]
        families.add(tile.family)
        if tile.shape is not None and tile.colour is not None:
            pieces[row, column] = Piece(tile.colour, tile.shape)
    if len(families) != 1 or not families <= set(STYLES):
        return None
    return Scene.of(Board(*codes.shape), families.pop(), pieces)


def render_codes(codes: Codes) -> Pixels:
    """The image of a grid of codes, straight from the table of tiles."""
    rows, columns = codes.shape
    tiles = tile_pixels()[codes]
    return tiles.transpose(0, 2, 1, 3, 4).reshape(rows * TILE_PX, columns * TILE_PX, 3)


def render(scene: Scene) -> Pixels:
    """The scene's image, 16 pixels a cell."""
    return render_codes(scene_codes(scene))
