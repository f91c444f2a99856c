"""Architecture of a checkpoint: transformer, from ``config.json``, and image codec, from ``vqvae/config.json``."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dimoo_core.errors import WeightsError
from dimoo_core.files import read_json_object

_FIXED_CODEC: dict[str, object] = {"act_fn": "silu", "norm_type": "group", "lookup_from_codebook": True}
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
        for name, value in _FIXED_CODEC.items():
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
        values = {"_class_name": "VQModel"} | asdict(self) | blocks | _FIXED_CODEC
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


_FIXED: dict[str, tuple[object, ...]] = {
    "activation_type": ("silu",),
    "alibi": (False,),
    "attention_layer_norm": (False,),
    "bias_for_layer_norm": (False, None),
    "block_type": ("llama",),
    "include_bias": (False,),
    "include_qkv_bias": (False,),
    "input_emb_norm": (False,),
    "layer_norm_type": ("rms",),
    "layer_norm_with_affine": (True,),
    "rope": (True,),
    "rope_full_precision": (True,),
    "scale_logits": (False,),
    "weight_tying": (False,),
}
"""Options of the LLaDA family with the only values that Lumina-DiMOO uses; anything else is refused, not guessed at."""

_MAX_WIDTH, _MAX_LAYERS, _MAX_IDS = 2**20, 2**10, 2**24
"""Far beyond any model of this family: a larger number is a mistake, and would take a machine's memory to find out."""
_LEAST_FLOAT, _MOST_FLOAT = 1e-30, 1e30
_SHOWN = 80  # characters of a value in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Shape of the transformer; names are the field's, values those of the checkpoint's ``config.json``."""

    hidden_size: int
    num_heads: int
    num_kv_heads: int
    num_layers: int
    mlp_size: int
    num_embeddings: int  # rows of the embedding and of the head; may be padded beyond the last image code
    rope_theta: float = 500_000.0
    rms_norm_eps: float = 1e-5
    image_token_offset: int | None = None  # id of VQ code 0; None: by tokenizer and tensors

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def kv_size(self) -> int:
        """Width of the keys, and of the values, of one token."""
        return self.num_kv_heads * self.head_dim

    def __post_init__(self) -> None:
        counts = (self.hidden_size, self.num_heads, self.num_kv_heads, self.num_layers, self.mlp_size)
        if min(*counts, self.num_embeddings) < 1:
            raise WeightsError(f"config.json: sizes must be positive, got {self}")
        if self.hidden_size % self.num_heads or self.head_dim % 2:
            raise WeightsError(
                f"config.json: d_model {self.hidden_size} must be an even multiple of n_heads {self.num_heads}"
            )
        if self.num_heads % self.num_kv_heads:
            raise WeightsError(
                f"config.json: n_heads {self.num_heads} must be a multiple of n_kv_heads {self.num_kv_heads}"
            )


DIMOO_8B = ModelConfig(
    hidden_size=4096,
    num_heads=32,
    num_kv_heads=32,
    num_layers=32,
    mlp_size=12288,
    num_embeddings=134_548,
    image_token_offset=126_356,
)
"""The shape of the published Lumina-DiMOO weights, for counting and for benchmarks with random weights."""


def read_model_config(path: Path) -> ModelConfig:
    """Read and check a checkpoint's ``config.json``.

    Raises:
        WeightsError: If the file is missing, is not JSON, lacks a key, or asks for an option of the LLaDA family that
            Lumina-DiMOO does not use.
    """
    raw = read_json_object(path, if_missing="not a Lumina-DiMOO checkpoint directory")
    for key, allowed in _FIXED.items():
        if key in raw and raw[key] not in allowed:
            raise WeightsError(f"{path}: {key} must be {' or '.join(map(repr, allowed))}, got {raw[key]!r}")
    hidden_size = _integer(raw, "d_model", path, 1, _MAX_WIDTH)
    num_heads = _integer(raw, "n_heads", path, 1, _MAX_WIDTH)
    mlp_size = _optional_integer(raw, "mlp_hidden_size", path, 1, _MAX_WIDTH)
    num_ids = _integer(raw, "vocab_size", path, 1, _MAX_IDS) if not raw.get("embedding_size") else None
    return ModelConfig(
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=_num_kv_heads(raw, num_heads, path),
        num_layers=_integer(raw, "n_layers", path, 1, _MAX_LAYERS),
        mlp_size=mlp_size if mlp_size is not None else _integer(raw, "mlp_ratio", path, 1, 64) * hidden_size,
        num_embeddings=num_ids or _integer(raw, "embedding_size", path, 1, _MAX_IDS),
        rope_theta=_positive(raw, "rope_theta", path, 500_000.0),
        rms_norm_eps=_positive(raw, "rms_norm_eps", path, 1e-5),
        image_token_offset=_optional_integer(raw, "image_token_offset", path, 0, _MAX_IDS),
    )


def _integer(raw: dict[str, Any], key: str, path: Path, least: int, most: int) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WeightsError(f"{path}: {key} must be an integer, got {_shown(value)}")
    if not least <= value <= most:
        raise WeightsError(f"{path}: {key} must be {least} to {most}, got {_shown(value)}")
    return value


def _optional_integer(raw: dict[str, Any], key: str, path: Path, least: int, most: int) -> int | None:
    return None if raw.get(key) is None else _integer(raw, key, path, least, most)


def _positive(raw: dict[str, Any], key: str, path: Path, default: float) -> float:
    """A number above 0 that float32 holds; ``default`` where the key is not there."""
    value = raw.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not _LEAST_FLOAT <= value <= _MOST_FLOAT:
        raise WeightsError(f"{path}: {key} must be a number from {_LEAST_FLOAT} to {_MOST_FLOAT}, got {_shown(value)}")
    return float(value)


def _num_kv_heads(raw: dict[str, Any], num_heads: int, path: Path) -> int:
    """Source: ``ModelConfig.effective_n_kv_heads`` of the reference's ``configuration_llada.py``."""
    given = _optional_integer(raw, "n_kv_heads", path, 1, num_heads)
    if given is not None:
        return given
    is_shared = raw.get("multi_query_attention")
    if is_shared is not None and not isinstance(is_shared, bool):
        raise WeightsError(f"{path}: multi_query_attention must be true, false or null, got {_shown(is_shared)}")
    return 1 if is_shared else num_heads


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
