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
    image_token_offset: int | None = None  # id of VQ code 0; None: the first id after the tokenizer's last

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
    hidden_size = _integer(raw, "d_model", path)
    num_heads = _integer(raw, "n_heads", path)
    mlp_size = raw.get("mlp_hidden_size")
    return ModelConfig(
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=_num_kv_heads(raw, num_heads),
        num_layers=_integer(raw, "n_layers", path),
        mlp_size=mlp_size if mlp_size is not None else _integer(raw, "mlp_ratio", path) * hidden_size,
        num_embeddings=raw.get("embedding_size") or _integer(raw, "vocab_size", path),
        rope_theta=float(raw.get("rope_theta", 500_000.0)),
        rms_norm_eps=float(raw.get("rms_norm_eps", 1e-5)),
        image_token_offset=raw.get("image_token_offset"),
    )


def _integer(raw: dict[str, Any], key: str, path: Path) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WeightsError(f"{path}: {key} must be an integer, got {value!r}")
    return value


def _num_kv_heads(raw: dict[str, Any], num_heads: int) -> int:
    """Source: ``ModelConfig.effective_n_kv_heads`` of the reference's ``configuration_llada.py``."""
    if raw.get("n_kv_heads") is not None:
        return int(raw["n_kv_heads"])
    return 1 if raw.get("multi_query_attention") else num_heads
