"""Transformers with random weights, made where they are used: no file, no copy in host memory."""

import math

import torch
from torch import nn

from benchmarks.shape import Shape
from dimoo_core.model.float8 import FLOAT8
from dimoo_core.model.transformer import Block, RMSNorm, Transformer


def random_transformer(
    shape: Shape, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> Transformer:
    """A transformer whose activations and logits have a variance near one, so that nothing over- or underflows.

    It never answers with an end token or a mask, so that every answer takes all of its steps.
    """
    transformer = Transformer(shape.config, device=device, dtype=dtype)
    generator = torch.Generator(device).manual_seed(seed)
    for module in transformer.modules():
        for parameter in module.parameters(recurse=False):
            _fill(module, parameter, generator)
    tokens = shape.tokens
    transformer.head.data[[tokens.answer_end, tokens.end_of_text, tokens.mask]] = 0  # never the largest logit
    return transformer


def in_float8(transformer: Transformer) -> Transformer:
    """The same weights, those of the layers rounded to 8 bits; the rest is shared."""
    rounded = Transformer(transformer.config, device=transformer.device, dtype=FLOAT8)
    rounded.embedding, rounded.head = transformer.embedding, transformer.head
    rounded.final_norm = transformer.final_norm
    for block, other in zip(transformer.blocks, rounded.blocks, strict=True):
        assert isinstance(block, Block)
        assert isinstance(other, Block)
        other.attn_norm, other.ff_norm = block.attn_norm, block.ff_norm
        for name in ("qkv", "attn_out", "gate_up", "ff_out"):
            getattr(other, name).copy_(getattr(block, name))
    return rounded


def _fill(module: nn.Module, parameter: nn.Parameter, generator: torch.Generator) -> None:
    if isinstance(module, RMSNorm):
        parameter.fill_(1)
    elif isinstance(module, Transformer) and parameter is module.embedding:
        parameter.normal_(generator=generator)
    else:
        parameter.normal_(std=1 / math.sqrt(parameter.shape[1]), generator=generator)
