"""Shape of the image codec's network, as ``vqvae/config.json`` of a checkpoint states it."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dimoo_core.errors import WeightsError
from dimoo_core.stored_file import read_json_object

_FIXED: dict[str, object] = {"act_fn": "silu", "norm_type": "group", "lookup_from_codebook": True}
_BLOCKS = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}

_COLOURS = ("in_channels", "out_channels")
_MOST_LEVELS, _MOST_CHANNELS = 12, 2**16
_MOST = {
    "layers_per_block": 64,
    "latent_channels": _MOST_CHANNELS,
    "num_vq_embeddings": 2**24,
    "vq_embed_dim": _MOST_CHANNELS,
    "norm_num_groups": _MOST_CHANNELS,
} | dict.fromkeys(_COLOURS, 3)
"""The largest value of each size; one beyond it would take all memory before anything else is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VQConfig:
    """Shape of the network; names and defaults are those of the checkpoint's ``vqvae/config.json``."""

    block_out_channels: tuple[int, ...]  # of each level, full resolution first
    layers_per_block: int = 1
    latent_channels: int = 3
    num_vq_embeddings: int = 256
    vq_embed_dim: int | None = None  # None: as many as the latent has channels
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    in_channels: int = 3
    out_channels: int = 3

    @property
    def code_size(self) -> int:
        """Numbers of a codebook entry."""
        return self.latent_channels if self.vq_embed_dim is None else self.vq_embed_dim

    @property
    def num_parameters(self) -> int:
        """Numbers of the network, as ``VQModel`` has them; known without torch."""
        return sum(math.prod(shape) for shape in codec_shapes(self).values())

    @property
    def pixels_per_code(self) -> int:
        """Side of the square of pixels that one code stands for."""
        return int(2 ** (len(self.block_out_channels) - 1))

    @classmethod
    def read(cls, path: Path) -> "VQConfig":
        """Read a file.

        Raises:
            WeightsError: If it is not there, not JSON, has a value of another type or range, or asks for another kind
                of network.
        """
        given = read_json_object(path, if_missing="the checkpoint has no image codec")
        for name, value in _FIXED.items():
            if given.get(name, value) != value:
                raise WeightsError(f"{path}: {name} must be {value!r}, got {given[name]!r}")
        channels = _channels(path, given)
        for name, block in _BLOCKS.items():
            if name in given and given[name] != [block] * len(channels):
                raise WeightsError(
                    f"{path}: {name} must be {block} for each of the {len(channels)} levels, got {given[name]!r}"
                )
        sizes = {name: _size(path, name, given[name], most) for name, most in _MOST.items() if name in given}
        has_attention = given.get("mid_block_add_attention", True)
        if not isinstance(has_attention, bool):
            raise WeightsError(f"{path}: mid_block_add_attention must be true or false, got {has_attention!r}")
        config = cls(block_out_channels=channels, mid_block_add_attention=has_attention, **sizes)
        if uneven := [count for count in channels if count % config.norm_num_groups]:
            raise WeightsError(
                f"{path}: block_out_channels must be multiples of norm_num_groups {config.norm_num_groups}, "
                f"got {uneven[0]}"
            )
        return config

    def write(self, path: Path) -> None:
        """Write a file that ``read`` and diffusers understand."""
        levels = len(self.block_out_channels)
        blocks = {name: [block] * levels for name, block in _BLOCKS.items()}
        values = {"_class_name": "VQModel"} | asdict(self) | blocks | _FIXED
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def codec_shapes(config: VQConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the network, as ``VQModel`` has them; known without torch."""
    channels, latents, code_size = config.block_out_channels, config.latent_channels, config.code_size
    shapes: dict[str, tuple[int, ...]] = {}
    for half, widths, block, num_resnets in (
        ("encoder", channels, "down_blocks", config.layers_per_block),
        ("decoder", channels[::-1], "up_blocks", config.layers_per_block + 1),
    ):
        is_encoder = half == "encoder"
        shapes |= _layer(f"{half}.conv_in", widths[0], config.in_channels if is_encoder else latents, 3, 3)
        shapes |= _levels(f"{half}.{block}", widths, num_resnets, "downsamplers" if is_encoder else "upsamplers")
        shapes |= _middle(f"{half}.mid_block", channels[-1], has_attention=config.mid_block_add_attention)
        shapes |= _layer(f"{half}.conv_norm_out", widths[-1])
        shapes |= _layer(f"{half}.conv_out", latents if is_encoder else config.out_channels, widths[-1], 3, 3)
    shapes |= _layer("quant_conv", code_size, latents, 1, 1) | _layer("post_quant_conv", latents, code_size, 1, 1)
    shapes["quantize.embedding.weight"] = (config.num_vq_embeddings, code_size)
    return shapes


def _layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    """A weight and its bias: of a convolution, a linear layer, or a normalisation."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _levels(name: str, channels: tuple[int, ...], num_resnets: int, samplers: str) -> dict[str, tuple[int, ...]]:
    """Residual blocks of each level, and a convolution that changes the resolution except on the last one."""
    shapes: dict[str, tuple[int, ...]] = {}
    for level, (before, after) in enumerate(zip((channels[0], *channels), channels, strict=False)):
        for index in range(num_resnets):
            shapes |= _resnet(f"{name}.{level}.resnets.{index}", before if index == 0 else after, after)
        if level < len(channels) - 1:
            shapes |= _layer(f"{name}.{level}.{samplers}.0.conv", after, after, 3, 3)
    return shapes


def _middle(name: str, channels: int, *, has_attention: bool) -> dict[str, tuple[int, ...]]:
    shapes = _resnet(f"{name}.resnets.0", channels, channels) | _resnet(f"{name}.resnets.1", channels, channels)
    if has_attention:
        shapes |= _layer(f"{name}.attentions.0.group_norm", channels)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes |= _layer(f"{name}.attentions.0.{part}", channels, channels)
    return shapes


def _resnet(name: str, before: int, after: int) -> dict[str, tuple[int, ...]]:
    shapes = _layer(f"{name}.norm1", before) | _layer(f"{name}.conv1", after, before, 3, 3)
    shapes |= _layer(f"{name}.norm2", after) | _layer(f"{name}.conv2", after, after, 3, 3)
    return shapes | (_layer(f"{name}.conv_shortcut", after, before, 1, 1) if before != after else {})


def _channels(path: Path, given: dict[str, Any]) -> tuple[int, ...]:
    if "block_out_channels" not in given:
        raise WeightsError(f"{path}: block_out_channels is missing")
    channels = given["block_out_channels"]
    if not isinstance(channels, list) or not 1 <= len(channels) <= _MOST_LEVELS:
        raise WeightsError(f"{path}: block_out_channels must be a list of 1 to {_MOST_LEVELS} sizes, got {channels!r}")
    return tuple(_size(path, "block_out_channels", each, _MOST_CHANNELS) for each in channels)


def _size(path: Path, name: str, value: object, most: int) -> Any:
    if value is None and name == "vq_embed_dim":
        return None
    least = most if name in _COLOURS else 1
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        allowed = f"{most}" if least == most else f"a whole number from 1 to {most}"
        raise WeightsError(f"{path}: {name} must be {allowed}, got {value!r}")
    return value
