"""The embedded model's VQ codec: a small VQGAN around the fixed codebook, 16 pixels a code."""

from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from dimoo_core.codec.vqgan import VQModel
from dimoo_core.model_config import VQConfig
from shapes.codebook import LATENT_CHANNELS, code_vectors
from shapes.split import split_of
from shapes.tile import CODE_OF, EDGES, NUM_CODES, SEGMENTS, Codes, Tile, codes_scene, render_codes
from shapes.world import COLOURS, SHAPES, STYLES, Board

BLOCK_CHANNELS = (8, 16, 32, 48, 80)
"""Channels of the five levels, full resolution first."""


def build_codec() -> VQModel:
    """A network with the fixed codebook and random weights."""
    model = VQModel(
        VQConfig(
            block_out_channels=BLOCK_CHANNELS,
            layers_per_block=1,
            latent_channels=LATENT_CHANNELS,
            num_vq_embeddings=NUM_CODES,
            norm_num_groups=4,
            mid_block_add_attention=False,
        )
    )
    with torch.no_grad():
        model.quantize.embedding.weight.copy_(code_vectors())
        model.decoder.conv_out.bias.fill_(0.5)
    model.quantize.embedding.weight.requires_grad_(False)
    return model


def save_codec(model: VQModel, directory: Path) -> None:
    """Write ``vqvae/`` of a checkpoint directory, weights in half precision."""
    model.save(directory / "vqvae", dtype=torch.float16)


def draw_grids(rng: Generator, board: Board, num_grids: int) -> Codes:
    """Boards to train the codec on, (grids, rows, columns): one family each, from one piece to half the cells.

    A third of them repeat one piece: equal neighbours are the hard case, as nothing tells where one tile ends. Scenes
    of the tuning and test splits are left out.
    """
    grids: list[Codes] = []
    while len(grids) < num_grids:
        grid = _draw_grid(rng, board)
        scene = codes_scene(grid)
        if scene is None or split_of(scene) == "train":
            grids.append(grid)
    return np.stack(grids)


def _draw_grid(rng: Generator, board: Board) -> Codes:
    family = str(rng.choice((*STYLES, EDGES, SEGMENTS), p=(0.28, 0.28, 0.28, 0.08, 0.08)))
    is_map = family in (EDGES, SEGMENTS)
    grid = np.full(board.rows * board.columns, CODE_OF[Tile(EDGES if is_map else family)], dtype=np.int64)
    most = len(grid) // 2 if rng.random() < 0.5 else 4
    cells = rng.permutation(len(grid))[: rng.integers(1, most + 1)]
    shapes, colours = rng.choice(SHAPES, len(cells)), rng.choice(COLOURS, len(cells))
    if rng.random() < 0.33:
        shapes[:], colours[:] = shapes[0], colours[0]
    for cell, shape, colour in zip(cells, shapes, colours, strict=True):
        grid[cell] = CODE_OF[Tile(family, str(shape), None if is_map else str(colour))]
    return grid.reshape(board.rows, board.columns)


def grid_images(grids: Codes) -> Tensor:
    """Images of grids as the codec's input, (grids, 3, height, width) in 0..1."""
    pixels = torch.from_numpy(np.stack([render_codes(grid) for grid in grids]))
    return pixels.permute(0, 3, 1, 2).float() / 255
