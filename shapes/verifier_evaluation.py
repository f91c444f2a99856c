"""How often the verifier is right: on rendered scenes with small defects, and on tiles that must be refused.

``python -m shapes.verifier_evaluation [SCENES]`` prints both tables.
"""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from shapes.split import SPLITS
from shapes.task import sample
from shapes.tile import CODE_OF, EDGES, TILES, Pixels, Tile, render, tile_pixels
from shapes.verifier import Unreadable, read_codes, read_scene
from shapes.world import COLOURS, SHAPES, STYLES

Defect = Callable[[Pixels, np.random.Generator], Pixels]


def _blur(image: Pixels, radius: float) -> Pixels:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def _noise(image: Pixels, rng: np.random.Generator, deviation: float) -> Pixels:
    return (image + rng.normal(0, deviation, image.shape)).clip(0, 255).astype(np.uint8)


def _tint(image: Pixels, rng: np.random.Generator, most: float) -> Pixels:
    return (image + rng.uniform(-most, most, 3)).clip(0, 255).astype(np.uint8)


def _jpeg(image: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


DEFECTS: dict[str, Defect] = {
    "none": lambda image, _: image,
    "blur, radius 0.5": lambda image, _: _blur(image, 0.5),
    "noise, deviation 8": lambda image, rng: _noise(image, rng, 8),
    "tint, up to 10": lambda image, rng: _tint(image, rng, 10),
    "blur 0.5, noise 5, tint 5": lambda image, rng: _tint(_noise(_blur(image, 0.5), rng, 5), rng, 5),
    "JPEG, quality 90": lambda image, _: _jpeg(image, 90),
}
"""Defects that must not matter; values in 0..255."""


def num_read(defect: str, num_scenes: int) -> int:
    """How many of so many rendered scenes are read right with a defect."""
    rng = np.random.default_rng(0)
    right = 0
    for seed in range(num_scenes):
        scene = sample("captioning", seed, SPLITS[seed % 3]).scenes[0]
        right += read_scene(DEFECTS[defect](render(scene), rng)) == scene
    return right


def half_shapes() -> Iterator[Pixels]:
    """Each shape with its left, right, upper or lower half missing."""
    for code, tile in enumerate(TILES):
        if tile.shape is not None:
            yield from _half_of_each(code, _empty(tile))


def merged_shapes() -> Iterator[Pixels]:
    """Half of one shape and half of another, of one colour."""
    for code, tile in enumerate(TILES):
        if tile.shape is not None:
            for shape in SHAPES:
                if shape != tile.shape:
                    yield from _half_of_each(code, CODE_OF[replace(tile, shape=shape)])


def colours_between() -> Iterator[Pixels]:
    """Each piece in the mean of two colours that have no third in their middle."""
    for code, tile in enumerate(TILES):
        if tile.colour is not None:
            colour = COLOURS[(COLOURS.index(tile.colour) + 1) % len(COLOURS)]
            yield _mean(code, CODE_OF[replace(tile, colour=colour)])


def faded_pieces() -> Iterator[Pixels]:
    """Each piece half transparent."""
    for code, tile in enumerate(TILES):
        if tile.shape is not None:
            yield _mean(code, _empty(tile))


def styles_between() -> Iterator[Pixels]:
    """Each piece in the mean of two styles."""
    for code, tile in enumerate(TILES):
        if tile.colour is not None:
            yield _mean(code, CODE_OF[replace(tile, family=STYLES[(STYLES.index(tile.family) + 1) % len(STYLES)])])


def shifted_shapes() -> Iterator[Pixels]:
    """Each shape two to four pixels from its place."""
    for tile, pixels in zip(TILES, tile_pixels(), strict=True):
        if tile.shape is not None:
            for distance in (2, 3, 4):
                for axis in (0, 1):
                    yield np.roll(pixels, distance, axis)


def cut_out_pieces() -> Iterator[Pixels]:
    """Each piece as one style draws it, on the background of another."""
    for code, tile in enumerate(TILES):
        if tile.colour is not None:
            piece, empty = tile_pixels()[code], tile_pixels()[_empty(tile)]
            is_piece = (piece != empty).any(axis=-1, keepdims=True)
            for style in STYLES:
                if style != tile.family:
                    yield np.where(is_piece, piece, tile_pixels()[CODE_OF[Tile(style)]])


MUST_REFUSE: dict[str, Callable[[], Iterator[Pixels]]] = {
    "half shapes": half_shapes,
    "merged shapes": merged_shapes,
    "colours in between": colours_between,
    "half transparent pieces": faded_pieces,
    "styles in between": styles_between,
    "shifted shapes": shifted_shapes,
    "pieces on another background": cut_out_pieces,
}
"""Tiles that are no tiles of the table."""


def refusals(name: str) -> tuple[int, int]:
    """How many of a kind of wrong tiles are refused, and how many there are."""
    tiles = list(MUST_REFUSE[name]())
    return sum(isinstance(read_codes(tile), Unreadable) for tile in tiles), len(tiles)


def _half_of_each(first: int, second: int) -> Iterator[Pixels]:
    one, other = tile_pixels()[first], tile_pixels()[second]
    yield np.concatenate((one[:8], other[8:]), axis=0)
    yield np.concatenate((one[:, :8], other[:, 8:]), axis=1)
    yield np.concatenate((other[:8], one[8:]), axis=0)
    yield np.concatenate((other[:, :8], one[:, 8:]), axis=1)


def _mean(first: int, second: int) -> Pixels:
    return tile_pixels()[[first, second]].mean(axis=0).astype(np.uint8)


def _empty(tile: Tile) -> int:
    return CODE_OF[Tile(tile.family if tile.family in STYLES else EDGES)]


def main() -> None:
    """Print both tables."""
    num_scenes = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    for defect in DEFECTS:
        print(f"read right, {defect:28s} {num_read(defect, num_scenes):6d} of {num_scenes}")
    for name in MUST_REFUSE:
        refused, number = refusals(name)
        print(f"refused,    {name:28s} {refused:6d} of {number}")


if __name__ == "__main__":
    main()
