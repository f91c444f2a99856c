"""Shape of the image codec's network, as ``vqvae/config.json`` of a checkpoint states it."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dimoo_core.errors import WeightsError

_FIXED: dict[str, object] = {"act_fn": "silu", "norm_type": "group", "lookup_from_codebook": True}
_BLOCKS = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}


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

    @classmethod
    def read(cls, path: Path) -> "VQConfig":
        """Read a file.

        Raises:
            WeightsError: If it is not there, not JSON, or asks for another kind of network.
        """
        if not path.is_file():
            raise WeightsError(f"{path} is missing: the checkpoint has no image codec")
        try:
            given: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise WeightsError(f"{path} is not JSON: {error}") from error
        for name, value in _FIXED.items():
            if given.get(name, value) != value:
                raise WeightsError(f"{path}: {name} must be {value!r}, got {given[name]!r}")
        for name, block in _BLOCKS.items():
            if other := set(given.get(name, ())) - {block}:
                raise WeightsError(f"{path}: {name} must be {block} throughout, got {', '.join(sorted(other))}")
        known = {field.name: given[field.name] for field in fields(cls) if field.name in given}
        try:
            return cls(**known | {"block_out_channels": tuple(given["block_out_channels"])})
        except KeyError as error:
            raise WeightsError(f"{path}: {error} is missing") from error
        except TypeError as error:
            raise WeightsError(f"{path}: {error}") from error

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
