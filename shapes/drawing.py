"""How one tile looks: signed distances of the shapes, and a way of painting for each background.

Everything is computed on a grid several times finer than the tile and averaged, so edges are antialiased.
Distances and positions are in tile widths, with the origin in the middle of the tile and y pointing down.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

TILE_PX = 16
"""Side of a tile: one image token."""

_SUPERSAMPLING = 8

Field = NDArray[np.float64]
"""One value for each point of the fine grid."""

Paint = NDArray[np.float64]
"""One RGB triple in 0..1 for each point of the fine grid."""

BLACK = (0, 0, 0)
_INK = (38, 34, 56)
_WHITE = (255, 255, 255)
_BACKGROUNDS = {"paper": (250, 245, 232), "sky": (158, 208, 246), "night": (23, 24, 54)}
_COLOURS = {
    "red": (226, 30, 40),
    "orange": (252, 126, 8),
    "yellow": (255, 226, 36),
    "green": (42, 168, 72),
    "blue": (26, 92, 230),
    "purple": (150, 44, 190),
}
_CLASS_COLOURS = {
    "circle": (240, 70, 90),
    "square": (70, 200, 120),
    "triangle": (80, 130, 250),
    "star": (245, 215, 60),
    "heart": (200, 90, 230),
}


def draw_piece(style: str, shape: str, colour: str) -> NDArray[np.uint8]:
    """A piece on its background, (16, 16, 3)."""
    return _to_pixels(_PAINTERS[style](_distance(shape), _rgb(_COLOURS[colour])))


def draw_empty(style: str) -> NDArray[np.uint8]:
    """The background alone: flat, since a convolutional decoder could not tell where a pattern starts."""
    return _to_pixels(_flat(_BACKGROUNDS[style]))


def draw_edge(shape: str) -> NDArray[np.uint8]:
    """The shape's outline, white on black."""
    line = _coverage(np.abs(_distance(shape) + 0.03) - 0.045)
    return _to_pixels(_blend(_flat(BLACK), _rgb(_WHITE), line))


def draw_segment(shape: str) -> NDArray[np.uint8]:
    """The shape's silhouette in the colour of its class, on black."""
    return _to_pixels(_blend(_flat(BLACK), _rgb(_CLASS_COLOURS[shape]), _coverage(_distance(shape))))


def draw_black() -> NDArray[np.uint8]:
    """The empty tile of edge maps and segmentation maps."""
    return _to_pixels(_flat(BLACK))


def _paint_paper(distance: Field, colour: Paint) -> Paint:
    """Flat ink: a dark outline, a matt highlight at the upper left."""
    x, y = _grid()
    paint = _blend(_flat(_BACKGROUNDS["paper"]), 0.42 * colour + 0.06 * _rgb(_INK), _coverage(distance))
    paint = _blend(paint, colour, _coverage(distance + 0.065))
    shine = np.exp(-((x + 0.13) ** 2 + (y + 0.12) ** 2) / 0.010)
    return _blend(paint, _rgb(_WHITE), 0.55 * shine * _coverage(distance + 0.08))


def _paint_sky(distance: Field, colour: Paint) -> Paint:
    """Glossy sticker: a white rim, lighter above than below."""
    _, y = _grid()
    paint = _blend(_flat(_BACKGROUNDS["sky"]), _rgb(_WHITE), _coverage(distance - 0.015))
    lightness = np.clip(0.08 - 0.75 * y, 0.0, 0.35)[..., None]
    glossy = colour * (1 - lightness) + lightness
    glossy = glossy * (1 - np.clip(0.9 * (y - 0.05), 0.0, 0.3))[..., None]
    return _blend(paint, glossy, _coverage(distance + 0.05))


def _paint_night(distance: Field, colour: Paint) -> Paint:
    """Neon: a halo in the piece's colour that ends before the tile does, and a bright core."""
    x, y = _grid()
    inside_tile = np.clip((0.5 - np.maximum(np.abs(x), np.abs(y))) / 0.10, 0.0, 1.0)
    halo = 0.55 * np.exp(-np.maximum(distance, 0.0) / 0.055) * inside_tile
    paint = _blend(_flat(_BACKGROUNDS["night"]), colour, halo)
    bright = 0.82 * colour + 0.18
    paint = _blend(paint, bright, _coverage(distance + 0.02))
    core = np.clip(-distance - 0.05, 0.0, 0.16) / 0.16
    return _blend(paint, _rgb(_WHITE), 0.32 * core)


_PAINTERS: dict[str, Callable[[Field, Paint], Paint]] = {
    "paper": _paint_paper,
    "sky": _paint_sky,
    "night": _paint_night,
}


@cache
def _grid() -> tuple[Field, Field]:
    side = TILE_PX * _SUPERSAMPLING
    axis = (np.arange(side) + 0.5) / side - 0.5
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y


@cache
def _distance(shape: str) -> Field:
    """Signed distance to the shape's edge, negative inside."""
    x, y = _grid()
    if shape == "circle":
        return np.hypot(x, y) - 0.40
    if shape == "heart":
        return _heart_distance(x / 0.67, (0.38 - y) / 0.67) * 0.67
    corners = {
        "square": [(-0.29, -0.29), (0.29, -0.29), (0.29, 0.29), (-0.29, 0.29)],
        "triangle": [(0.0, -0.36), (0.38, 0.30), (-0.38, 0.30)],
        "star": _star_corners(0.46, 0.215),
    }[shape]
    return _polygon_distance(x, y, corners) - 0.0225


def _star_corners(outer: float, inner: float) -> list[tuple[float, float]]:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, outer, inner)
    return [
        (radius * np.cos(angle), radius * np.sin(angle) + 0.02) for radius, angle in zip(radii, angles, strict=True)
    ]


def _polygon_distance(x: Field, y: Field, corners: list[tuple[float, float]]) -> Field:
    """Signed distance to a simple polygon.

    Source: ``sdPolygon`` of Inigo Quilez, "2D distance functions".
    """
    squared = np.full_like(x, np.inf)
    sign = np.ones_like(x)
    for (ax, ay), (bx, by) in zip(corners, corners[-1:] + corners[:-1], strict=True):
        ex, ey, wx, wy = bx - ax, by - ay, x - ax, y - ay
        along = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0.0, 1.0)
        squared = np.minimum(squared, (wx - ex * along) ** 2 + (wy - ey * along) ** 2)
        crossings = np.stack((y >= ay, y < by, ex * wy > ey * wx))
        sign = np.where(crossings.all(axis=0) | ~crossings.any(axis=0), -sign, sign)
    return sign * np.sqrt(squared)


def _heart_distance(x: Field, y: Field) -> Field:
    """Signed distance to a heart that stands with its tip on the origin and is about 1.1 high, y pointing up.

    Source: ``sdHeart`` of Inigo Quilez, "2D distance functions".
    """
    x = np.abs(x)
    lobe = np.hypot(x - 0.25, y - 0.75) - np.sqrt(2.0) / 4.0
    diagonal = 0.5 * np.maximum(x + y, 0.0)
    lower = np.minimum(x**2 + (y - 1.0) ** 2, (x - diagonal) ** 2 + (y - diagonal) ** 2)
    return np.where(x + y > 1.0, lobe, np.sqrt(lower) * np.sign(x - y))


def _coverage(distance: Field) -> Field:
    """1 inside, 0 outside, with a ramp of one fine grid step."""
    return np.clip(0.5 - distance * TILE_PX * _SUPERSAMPLING, 0.0, 1.0)


def _rgb(colour: tuple[int, int, int]) -> Paint:
    return np.array(colour, dtype=np.float64) / 255.0


def _flat(colour: tuple[int, int, int]) -> Paint:
    side = TILE_PX * _SUPERSAMPLING
    return np.broadcast_to(_rgb(colour), (side, side, 3))


def _blend(under: Paint, over: Paint, opacity: Field) -> Paint:
    return under * (1.0 - opacity[..., None]) + over * opacity[..., None]


def _to_pixels(paint: Paint) -> NDArray[np.uint8]:
    fine = paint.reshape(TILE_PX, _SUPERSAMPLING, TILE_PX, _SUPERSAMPLING, 3).mean(axis=(1, 3))
    return (fine * 255.0 + 0.5).astype(np.uint8)
