"""The vectors of the VQ codebook, written down rather than learned.

A code's vector says what its tile shows: one dimension for each background or map, for each shape and for each colour.
Two tiles that differ in one property are equally far apart whichever property it is. The codec's encoder and decoder
are trained around this table (see ``codec_training``); nothing ever moves it.
"""

import torch
from torch import Tensor

from shapes.tile import EDGES, NUM_CODES, SEGMENTS, TILES
from shapes.world import COLOURS, SHAPES, STYLES

_FEATURES = (*STYLES, EDGES, SEGMENTS, *SHAPES, *COLOURS, "unused")

LATENT_CHANNELS = len(_FEATURES)

_SCALE = 2.0
"""Puts the vectors' values near the size that a network's outputs start with."""


def code_vectors() -> Tensor:
    """The codebook, (128, channels) float32; all unused codes share a vector away from the others."""
    vectors = torch.zeros(NUM_CODES, LATENT_CHANNELS)
    for code, tile in enumerate(TILES):
        for feature in (tile.family, tile.shape, tile.colour):
            if feature is not None:
                vectors[code, _FEATURES.index(feature)] = _SCALE
    vectors[len(TILES) :, _FEATURES.index("unused")] = 2 * _SCALE
    return vectors
