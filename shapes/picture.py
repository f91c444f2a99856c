"""Pictures of the world for documents: ``python -m shapes.picture DIRECTORY``."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from shapes.task import sample
from shapes.tile import CODE_OF, EDGES, SEGMENTS, TILES, Codes, Tile, map_codes, render_codes, scene_codes
from shapes.world import COLOURS, SHAPES, STYLES, Board, Scene

_GAP_PX = 4


def tile_table(zoom: int = 3) -> Image.Image:
    """Every tile: a row a colour for each style, the maps' shapes below."""
    columns = [[CODE_OF[Tile(style, shape, colour)] for style in STYLES for shape in SHAPES] for colour in COLOURS]
    maps = [CODE_OF[Tile(family, shape)] for family in (EDGES, SEGMENTS) for shape in SHAPES]
    maps += [CODE_OF[Tile(family)] for family in (EDGES, *STYLES)]
    maps += [CODE_OF[Tile(EDGES)]] * (len(columns[0]) - len(maps))
    return enlarged(np.array([*columns, maps], dtype=np.int64), zoom)


def examples(zoom: int = 3) -> Image.Image:
    """Four scenes in every style, and their two maps."""
    scenes = [scene for seed in range(200) if len((scene := _scene(seed)).placed) == 4 and scene.board == Board(4, 4)]
    rows = [
        [*[scene_codes(scene.on(style)) for style in STYLES], map_codes(scene, EDGES), map_codes(scene, SEGMENTS)]
        for scene in scenes[:3]
    ]
    return sheet([[enlarged(codes, zoom) for codes in row] for row in rows])


def enlarged(codes: Codes, zoom: int) -> Image.Image:
    """The image of a grid of codes with every pixel as a square."""
    image = Image.fromarray(render_codes(codes))
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """Images of one size in rows, on white."""
    width, height = rows[0][0].size
    size = (max(map(len, rows)) * (width + _GAP_PX) + _GAP_PX, len(rows) * (height + _GAP_PX) + _GAP_PX)
    picture = Image.new("RGB", size, "white")
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            picture.paste(image, (_GAP_PX + column * (width + _GAP_PX), _GAP_PX + row * (height + _GAP_PX)))
    return picture


def _scene(seed: int) -> Scene:
    return sample("captioning", seed, "test").scenes[0]


def main() -> None:
    """Write both pictures."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    tile_table().save(directory / "shapes-tiles.png", optimize=True)
    examples().save(directory / "shapes-scenes.png", optimize=True)
    print(f"{len(TILES)} tiles")


if __name__ == "__main__":
    main()
