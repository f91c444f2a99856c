"""Attention heads that look at a neighbour, whatever stands there: how words come together.

To read ``a red star at b3`` a model has to carry ``red`` and ``star`` over to ``b3``, three and two places on. In five
hours of training on the world alone no head of any layer came to look at a fixed distance, and with two pieces in a
prompt colours, shapes and cells were matched by chance. So some heads start as such; training may move them like every
other number.

A query and a key that are the same for all tokens meet in a score that depends on their distance alone, since rotary
embedding turns both. Such a constant is nearly a linear function of what a layer sees, where all embeddings share a
vector. Dimensions: D head dim, E hidden size, N tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimoo_core.model_config import ModelConfig

OFFSETS = (-1, -2, -3, 1)
"""Where the heads look: from a shape to its colour, from a cell to its shape and colour, and one place on."""

_PEAK_LOGIT = 24.0
_PAIR_WEIGHTS = (0.5, 0.3, 0.2)
"""Shares of the fastest rotary pairs in the score: the first is sharp but comes round again after six places."""

_RIDGE = 1e-4
_OUT_SCALE = 0.25  # of what a new model's heads begin with: what the other heads do should not be drowned


def add_neighbour_heads(
    weights: dict[str, Tensor],
    config: ModelConfig,
    layer: int,
    heads: Sequence[int],
    seen_NE: Tensor,
    *,
    generator: torch.Generator,
) -> None:
    """Turn heads of a layer into ones that look ``OFFSETS`` places on, in place.

    What they carry over begins random and small.

    Args:
        weights: Tensors of a checkpoint by name.
        config: Its sizes; keys and values must have as many heads as queries.
        layer: Counted from 0.
        heads: One for each of ``OFFSETS``.
        seen_NE: What the layer's attention sees of tokens as they come, after its norm.
        generator: Of the values that are drawn.

    Raises:
        ValueError: Grouped keys, or another number of heads.
    """
    if config.num_kv_heads != config.num_heads or len(heads) != len(OFFSETS):
        raise ValueError(f"{len(OFFSETS)} heads with keys of their own are needed, got {list(heads)}")
    constant_E = constant_direction(seen_NE)
    size, block = config.head_dim, f"model.transformer.blocks.{layer}."
    for head, offset in zip(heads, OFFSETS, strict=True):
        rows = slice(head * size, (head + 1) * size)
        query_D, key_D = query_and_key(size, config.rope_theta, offset)
        weights[f"{block}q_proj.weight"][rows] = torch.outer(query_D, constant_E)
        weights[f"{block}k_proj.weight"][rows] = torch.outer(key_D, constant_E)
        _draw(weights[f"{block}v_proj.weight"][rows], config.hidden_size**-0.5, generator)
        out_scale = _OUT_SCALE * (2 * config.num_layers * config.hidden_size) ** -0.5
        _draw(weights[f"{block}attn_out.weight"][:, rows], out_scale, generator)


def constant_direction(seen_NE: Tensor) -> Tensor:
    """What gives about 1 with every row, (E,); by ridge regression."""
    seen_NE = seen_NE.double()
    gram_EE = seen_NE.T @ seen_NE + _RIDGE * len(seen_NE) * torch.eye(seen_NE.shape[1], dtype=torch.float64)
    return torch.linalg.solve(gram_EE, seen_NE.sum(0)).float()


def query_and_key(head_dim: int, rope_theta: float, offset: int) -> tuple[Tensor, Tensor]:
    """A query and a key, (D,) each, whose score is largest where the key lies ``offset`` places after the query."""
    half = head_dim // 2
    query_D, key_D = torch.zeros(head_dim), torch.zeros(head_dim)
    for pair, weight in enumerate(_PAIR_WEIGHTS):
        length = (weight * _PEAK_LOGIT * head_dim**0.5) ** 0.5
        angle = torch.tensor(offset * rope_theta ** (-2 * pair / head_dim))
        key_D[pair] = length
        query_D[pair], query_D[half + pair] = length * angle.cos(), length * angle.sin()
    return query_D, key_D


def _draw(target: Tensor, scale: float, generator: torch.Generator) -> None:
    target.copy_(torch.randn(target.shape, generator=generator) * scale)
