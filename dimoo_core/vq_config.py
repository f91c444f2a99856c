"""Shape of the image codec's network, as ``vqvae/config.json`` of a checkpoint states it."""

import json
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
        channels, code = self.block_out_channels, self.code_size
        first, last = channels[0], channels[-1]
        attention = 2 * last + 4 * (last * last + last) if self.mid_block_add_attention else 0
        middle = 2 * _residual(last, last) + attention
        steps = sum(_conv(each) for each in channels[:-1])  # down to half the resolution
        down = zip((first, *channels), channels, strict=False)
        encoder = sum(_level(before, after, self.layers_per_block) for before, after in down) + steps
        up = zip((last, *channels[::-1]), channels[::-1], strict=False)
        decoder = sum(_level(before, after, self.layers_per_block + 1) for before, after in up)
        decoder += sum(_conv(each) for each in channels[1:])
        ends = _conv(self.in_channels, first) + _conv(last, self.latent_channels) + 2 * last
        ends += _conv(self.latent_channels, last) + _conv(first, self.out_channels) + 2 * first
        projections = _conv(self.latent_channels, code, 1) + _conv(code, self.latent_channels, 1)
        return encoder + decoder + 2 * middle + ends + projections + self.num_vq_embeddings * code

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


def _conv(before: int, after: int | None = None, width: int = 3) -> int:
    """Numbers of a convolution, which keeps its channels if nothing else is said."""
    after = before if after is None else after
    return before * after * width * width + after


def _residual(before: int, after: int) -> int:
    shortcut = _conv(before, after, 1) if before != after else 0
    return 2 * before + _conv(before, after) + 2 * after + _conv(after) + shortcut


def _level(before: int, after: int, count: int) -> int:
    return _residual(before, after) + (count - 1) * _residual(after, after)


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
