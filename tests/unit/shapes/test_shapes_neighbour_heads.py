"""Heads that look at a fixed distance."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo_core.model.transformer import Rotary
from dimoo_core.model_config import ModelConfig
from dimoo_core.request.tokenizer import Tokenizer
from shapes.initial_weights import initial_weights
from shapes.neighbour_heads import OFFSETS, add_neighbour_heads, constant_direction, query_and_key
from shapes.tile import NUM_CODES
from shapes.tokenizer import save_tokenizer

NUM_TOKENS = 40


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(directory)
    return Tokenizer(directory)


def config_of(tokenizer: Tokenizer, *, num_kv_heads: int = 6) -> ModelConfig:
    return ModelConfig(
        hidden_size=192,
        num_heads=6,
        num_kv_heads=num_kv_heads,
        num_layers=2,
        mlp_size=64,
        num_embeddings=tokenizer.num_ids + NUM_CODES,
        rope_theta=10_000.0,
        image_token_offset=tokenizer.num_ids,
    )


def scores(query_D: Tensor, key_D: Tensor, config: ModelConfig) -> Tensor:
    """Attention of every place to every place, (T, T), for one query and one key."""
    rotary = Rotary(config)
    tables = rotary.tables(torch.arange(NUM_TOKENS))
    queries_TD = rotary.rotate(query_D.expand(NUM_TOKENS, 1, -1), tables)[:, 0]
    keys_TD = rotary.rotate(key_D.expand(NUM_TOKENS, 1, -1), tables)[:, 0]
    return (queries_TD @ keys_TD.T / config.head_dim**0.5).softmax(-1)


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_head_looks_at_its_distance_from_every_place(tokenizer: Tokenizer, offset: int) -> None:
    config = config_of(tokenizer)
    weight_TT = scores(*query_and_key(config.head_dim, config.rope_theta, offset), config)
    for place in range(4, NUM_TOKENS - 4):
        assert int(weight_TT[place].argmax()) == place + offset
        assert weight_TT[place, place + offset] > 0.9


def test_new_weights_find_their_neighbours_whatever_the_token_is(tokenizer: Tokenizer) -> None:
    config = config_of(tokenizer)
    weights = initial_weights(config, tokenizer, seed=0)
    embedding_NE = weights["model.transformer.wte.weight"][: tokenizer.num_ids + 100]
    seen_NE = F.rms_norm(embedding_NE, (config.hidden_size,))
    constant_E = constant_direction(seen_NE)
    query_EE = weights["model.transformer.blocks.0.q_proj.weight"]
    expected_D, _ = query_and_key(config.head_dim, config.rope_theta, OFFSETS[0])
    assert (seen_NE @ constant_E).std() < 0.25
    assert torch.allclose((seen_NE @ query_EE[: config.head_dim].T).mean(0), expected_D, atol=0.1 * expected_D.norm())


def test_grouped_keys_are_refused(tokenizer: Tokenizer) -> None:
    config = config_of(tokenizer, num_kv_heads=2)
    weights = initial_weights(config, tokenizer, seed=0)
    with pytest.raises(ValueError, match="keys of their own"):
        add_neighbour_heads(weights, config, 0, [0, 1, 2, 3], torch.zeros(5, 192), generator=torch.Generator())
