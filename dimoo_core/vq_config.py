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
