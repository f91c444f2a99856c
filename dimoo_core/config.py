"""The architecture of a checkpoint, read from its ``config.json``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dimoo_core.errors import WeightsError
from dimoo_core.stored_file import read_json_object

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
    image_token_offset: int | None = None  # id of VQ code 0; None: what tokenizer and tensors say

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
