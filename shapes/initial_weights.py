"""What the embedded model starts from: random weights, in which what belongs together starts alike.

The embedding of a tile's code is the sum of a vector for its family, one for its shape and one for its colour, and the
embeddings of the words ``red`` or ``circle`` hold the same vectors; so do the code's row of the head. A cell's name is
the sum of a vector for its row and one for its column. All embeddings share one vector, by which attention can look for
a place whatever stands there, and some heads of the first layer look at a neighbour (``neighbour_heads``). Nothing is
fixed: training moves every number.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo_core.checkpoint.check import expected_shapes
from dimoo_core.model_config import ModelConfig
from dimoo_core.request.tokenizer import Tokenizer
from shapes.neighbour_heads import OFFSETS, add_neighbour_heads
from shapes.tile import TILES
from shapes.world import COLOURS, MAX_SIDE, SHAPES, STYLES, cell_name

_EMBEDDING, _HEAD = "model.transformer.wte.weight", "model.transformer.ff_out.weight"
_EMBEDDING_SCALE = 0.02
_SHARED_SCALE = 2.0
"""Length of the vector that all embeddings share, against that of a token's own."""


def initial_weights(config: ModelConfig, tokenizer: Tokenizer, *, seed: int) -> dict[str, Tensor]:
    """A value for every tensor of a checkpoint, float32 on the CPU.

    Norms are one. Matrices are normal with variance 1 / inputs, those into the residual stream smaller with depth.
    """
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, shape in expected_shapes(config).items():
        if len(shape) == 1:
            weights[name] = torch.ones(shape)
            continue
        scale = _EMBEDDING_SCALE if ".blocks." not in name else shape[1] ** -0.5
        if ".blocks." in name and name.endswith(("attn_out.weight", "ff_out.weight")):
            scale *= (2 * config.num_layers) ** -0.5
        weights[name] = torch.randn(shape, generator=generator) * scale
    for table in (weights[_EMBEDDING], weights[_HEAD]):
        _compose(table, tokenizer, generator)
    shared = torch.randn(config.hidden_size, generator=generator) * _EMBEDDING_SCALE
    weights[_EMBEDDING] += _SHARED_SCALE * shared
    if config.num_kv_heads == config.num_heads >= len(OFFSETS):
        seen_NE = F.rms_norm(weights[_EMBEDDING][: tokenizer.num_ids + len(TILES)], (config.hidden_size,))
        add_neighbour_heads(weights, config, 0, range(len(OFFSETS)), seen_NE, generator=generator)
    return weights


def _compose(table: Tensor, tokenizer: Tokenizer, generator: torch.Generator) -> None:
    """Replace the rows of codes, of the words for what they show, and of cells by sums of their parts."""
    vectors: dict[str, Tensor] = {}

    def row(*parts: str) -> Tensor:
        for part in parts:
            if part not in vectors:
                vectors[part] = torch.randn(table.shape[1], generator=generator) * _EMBEDDING_SCALE
        own = torch.randn(table.shape[1], generator=generator) * _EMBEDDING_SCALE
        return (torch.stack([vectors[part] for part in parts]).sum(0) + 0.5 * own) / (len(parts) + 0.25) ** 0.5

    for code, tile in enumerate(TILES):
        parts = [part for part in (tile.family, tile.shape, tile.colour) if part is not None]
        table[tokenizer.num_ids + code] = row(*parts)
    for word, parts in _words():
        for form in (word, f" {word}"):
            ids = tokenizer.encode(form)
            if len(ids) == 1:
                table[ids[0]] = row(*parts)


def _words() -> Iterator[tuple[str, list[str]]]:
    """Words that start from parts, lower case and capital, and these parts."""
    for name in (*COLOURS, *SHAPES, *STYLES):
        yield from ((name, [name]), (name.capitalize(), [name]))
    for shape in SHAPES:
        yield f"{shape}s", [shape]
    for place_row in range(MAX_SIDE):
        for column in range(MAX_SIDE):
            yield cell_name((place_row, column)), [f"row {place_row}", f"column {column}"]
