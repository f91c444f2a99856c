"""``config.json`` of a checkpoint: read strictly, and every refusal says what was found."""

import json
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.errors import WeightsError
from dimoo_core.model_config import DIMOO_8B, ModelConfig, read_model_config

SMALL: dict[str, Any] = {
    "d_model": 32,
    "n_heads": 4,
    "n_kv_heads": 2,
    "n_layers": 3,
    "mlp_hidden_size": 96,
    "vocab_size": 1000,
    "embedding_size": 1024,
    "rope_theta": 10000,
    "rms_norm_eps": 1e-6,
}


def read(directory: Path, **changes: object) -> ModelConfig:
    path = directory / "config.json"
    raw = {key: value for key, value in (SMALL | changes).items() if value is not ...}
    path.write_text(json.dumps(raw))
    return read_model_config(path)


def test_every_size_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, image_token_offset=500) == ModelConfig(
        hidden_size=32,
        num_heads=4,
        num_kv_heads=2,
        num_layers=3,
        mlp_size=96,
        num_embeddings=1024,
        rope_theta=10000.0,
        rms_norm_eps=1e-6,
        image_token_offset=500,
    )


def test_what_the_family_leaves_out_has_its_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, n_kv_heads=None, mlp_hidden_size=None, mlp_ratio=4, embedding_size=None, rope_theta=...)
    assert (config.num_kv_heads, config.mlp_size, config.num_embeddings, config.rope_theta) == (4, 128, 1000, 500_000.0)
    assert read(tmp_path, n_kv_heads=None, multi_query_attention=True).num_kv_heads == 1


def test_the_published_shape_has_eight_billion_parameters() -> None:
    size, mlp = DIMOO_8B.hidden_size, DIMOO_8B.mlp_size
    layers = DIMOO_8B.num_layers * (4 * size * size + 3 * size * mlp)
    assert (DIMOO_8B.head_dim, DIMOO_8B.kv_size) == (128, 4096)
    assert 8.0e9 < layers + 2 * DIMOO_8B.num_embeddings * size < 8.1e9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": ...}, "d_model must be an integer, got None"),
        ({"n_layers": "3"}, "n_layers must be an integer, got '3'"),
        ({"n_heads": True}, "n_heads must be an integer, got True"),
        ({"n_layers": 0}, "n_layers must be 1 to 1024, got 0"),
        ({"n_layers": 10**9}, "n_layers must be 1 to 1024, got 1000000000"),
        ({"d_model": 2**40}, "d_model must be 1 to 1048576, got 1099511627776"),
        ({"vocab_size": "many", "embedding_size": None}, "vocab_size must be an integer, got 'many'"),
        ({"embedding_size": "1024"}, "embedding_size must be an integer, got '1024'"),
        ({"embedding_size": 1e3}, "embedding_size must be an integer, got 1000.0"),
        ({"mlp_hidden_size": [96]}, r"mlp_hidden_size must be an integer, got \[96\]"),
        ({"mlp_hidden_size": None, "mlp_ratio": None}, "mlp_ratio must be an integer, got None"),
        ({"n_kv_heads": "2"}, "n_kv_heads must be an integer, got '2'"),
        ({"n_kv_heads": None, "multi_query_attention": "no"}, "multi_query_attention must be true, false or null"),
        ({"image_token_offset": "500"}, "image_token_offset must be an integer, got '500'"),
        ({"image_token_offset": True}, "image_token_offset must be an integer, got True"),
        ({"image_token_offset": -1}, "image_token_offset must be 0 to 16777216, got -1"),
        ({"rope_theta": None}, "rope_theta must be a number from 1e-30 to 1e[+]30, got None"),
        ({"rope_theta": "1e4"}, "rope_theta must be a number .* got '1e4'"),
        ({"rope_theta": float("inf")}, "rope_theta must be a number .* got inf"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a number .* got nan"),
        ({"rms_norm_eps": 0}, "rms_norm_eps must be a number .* got 0"),
        ({"rms_norm_eps": True}, "rms_norm_eps must be a number .* got True"),
        ({"rope_theta": 10**400}, "rope_theta must be a number .* got 1000"),
        ({"n_heads": 5, "n_kv_heads": 5}, "d_model 32 must be an even multiple of n_heads 5"),
        ({"n_heads": 32, "n_kv_heads": 32}, "d_model 32 must be an even multiple of n_heads 32"),
        ({"n_kv_heads": 3}, "n_heads 4 must be a multiple of n_kv_heads 3"),
        ({"weight_tying": True}, "weight_tying must be False, got True"),
        ({"activation_type": "swiglu"}, "activation_type must be 'silu', got 'swiglu'"),
        ({"bias_for_layer_norm": True}, "bias_for_layer_norm must be False or None, got True"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read(tmp_path, **changes)


def test_a_missing_file_says_that_this_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"config\.json is missing: not a Lumina-DiMOO checkpoint directory"):
        read_model_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "must hold a JSON object, got list"),
        ('{"a":' * 100_000, "is not valid JSON"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=rf"config\.json {message}"):
        read_model_config(tmp_path / "config.json")
