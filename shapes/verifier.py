"""Pixels back to tiles and scenes, by rules alone: nothing here is learned, and doubt is a refusal.

A tile is read as the entry of the table that it resembles most, if it resembles it closely as a whole and everywhere,
and every other entry clearly less. Half shapes, merged shapes, colours in between and backgrounds that do not belong
together are refused; slight blur, noise and colour shifts are not.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shapes.drawing import TILE_PX
from shapes.tile import TILES, Codes, Pixels, codes_scene, tile_pixels
from shapes.world import MAX_SIDE, STYLES, Scene, cell_name

MAX_ERROR = 0.07
"""Largest root-mean-square difference to the tile that is read, of values in 0..1."""

MAX_ERROR_RATIO = 0.62
"""Largest difference to the tile that is read, as a share of the difference to the next best."""

MAX_PATCH_ERROR = 0.14
"""Largest root-mean-square difference within any of the tile's 4x4 patches of 4x4 pixels."""

MAX_PATCH_ERROR_RATIO = 0.75
"""The share again, within each patch and against each entry of the table that differs there by ``CLEAR_DIFFERENCE``.

It refuses a tile of which a part belongs to another entry: a half shape, a merged shape."""

CLEAR_DIFFERENCE = 0.15

_PATCH_PX = 4

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why pixels are no scene."""

    reason: str


def read_codes(image: Image.Image | Pixels) -> Codes | Unreadable:
    """The grid of codes that an image shows; every cell must be clear."""
    pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    height, width = pixels.shape[:2]
    rows, columns = height // TILE_PX, width // TILE_PX
    if height % TILE_PX or width % TILE_PX or not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE):
        return Unreadable(f"{width}x{height} pixels are no board of tiles of {TILE_PX}")
    tiles = pixels.reshape(rows, TILE_PX, columns, TILE_PX, 3).swapaxes(1, 2)
    values = _values(tiles.reshape(rows * columns, TILE_PX, TILE_PX, 3).astype(np.float32) / 255)
    errors, variants = _errors(values)
    codes = np.zeros(rows * columns, dtype=np.int64)
    for index in range(rows * columns):
        read = _read_tile(values[index], errors[index], variants[index])
        if isinstance(read, Unreadable):
            return Unreadable(f"{cell_name(divmod(index, columns))}: {read.reason}")
        codes[index] = read
    return codes.reshape(rows, columns)


def read_scene(image: Image.Image | Pixels) -> Scene | Unreadable:
    """The scene that an image shows."""
    codes = read_codes(image)
    if isinstance(codes, Unreadable):
        return codes
    scene = codes_scene(codes)
    if scene is None:
        families = sorted({TILES[code].family for code in codes.flat})
        return Unreadable(f"the tiles are those of {' and '.join(families)}, not of one background")
    return scene


def _errors(values: Floats) -> tuple[Floats, Codes]:
    """Of each tile to each entry of the table: the root-mean-square difference, and to which variant of the entry."""
    templates = _templates()
    squares = np.square(values).sum(axis=1)[:, None, None] + np.square(templates).sum(axis=2)
    products = np.einsum("nv,kcv->nkc", values, templates, optimize=True)
    errors = np.sqrt(np.maximum(squares - 2 * products, 0) / values.shape[1])
    return errors.min(axis=1), errors.argmin(axis=1)


def _read_tile(values: Floats, errors: Floats, variants: Codes) -> int | Unreadable:
    first, second = np.argsort(errors)[:2]
    if errors[first] > MAX_ERROR:
        return Unreadable(f"nearest to {_named(first)}, but too far from it ({errors[first]:.3f})")
    if errors[first] > MAX_ERROR_RATIO * errors[second]:
        return Unreadable(f"between {_named(first)} and {_named(second)}")
    patch_errors = _patch_errors(values - _templates()[variants, np.arange(len(TILES))])
    if patch_errors[first].max() > MAX_PATCH_ERROR:
        return Unreadable(f"nearest to {_named(first)}, but one part differs ({patch_errors[first].max():.3f})")
    is_rival = (patch_errors[first] > MAX_PATCH_ERROR_RATIO * patch_errors) & (
        _patch_differences()[first] > CLEAR_DIFFERENCE
    )
    if is_rival.any():
        return Unreadable(
            f"nearest to {_named(first)}, but one part is as near to {_named(is_rival.any(axis=1).argmax())}"
        )
    return int(first)


def _values(tiles: Floats) -> Floats:
    """Tiles as rows of values, patch after patch: (tiles, height, width, 3) to (tiles, values)."""
    side = TILE_PX // _PATCH_PX
    patches = tiles.reshape(-1, side, _PATCH_PX, side, _PATCH_PX, 3).swapaxes(2, 3)
    return patches.reshape(len(tiles), -1)


def _patch_errors(difference: Floats) -> Floats:
    """Root-mean-square difference within each patch: (tiles, values) to (tiles, patches)."""
    size = 3 * _PATCH_PX**2
    patches = difference.reshape(len(difference), -1, size)
    return np.sqrt(np.einsum("npv,npv->np", patches, patches) / size)


@cache
def _patch_differences() -> Floats:
    """Of each two entries of the table within each patch, (tiles, tiles, patches)."""
    sharp = _templates()[0]
    return np.stack([_patch_errors(sharp - tile) for tile in sharp])


@cache
def _templates() -> Floats:
    """The table's tiles as they are and slightly blurred, (2, tiles, values)."""
    sharp = tile_pixels().astype(np.float32) / 255
    padded = np.pad(sharp, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    weights = (0.2, 0.6, 0.2)
    rows = sum(weight * padded[:, start : start + TILE_PX] for start, weight in enumerate(weights))
    blurred = sum(weight * rows[:, :, start : start + TILE_PX] for start, weight in enumerate(weights))
    return np.stack((_values(sharp), _values(blurred)))


def _named(code: int) -> str:
    tile = TILES[code]
    parts = (tile.colour, tile.shape or "nothing")
    ground = f"on {tile.family}" if tile.family in STYLES else f"of {tile.family}"
    return " ".join(part for part in (*parts, ground) if part)
