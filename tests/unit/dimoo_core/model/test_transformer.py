"""The packed transformer against a plain one, written here for a single sequence at a time."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.model.attention import PackedLayout
from dimoo_core.model.batch_invariance import even_tiles, probe_invariance_policy
from dimoo_core.model.packed_batch import SequenceView, pack, read_everything
from dimoo_core.model_config import ModelConfig

CPU = torch.device("cpu")


def plain_hidden(weights: dict[str, Tensor], config: ModelConfig, ids: Tensor) -> Tensor:
    """Final-norm hidden states of one sequence, by the formulas: nothing packed, fused or left out."""

    def named(name: str) -> Tensor:
        return weights[f"model.transformer.{name}.weight"]

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).sqrt() * named(name)

    def heads(x: Tensor, name: str, num_heads: int) -> Tensor:
        return (x @ named(name).T).view(len(ids), num_heads, config.head_dim).transpose(0, 1)

    def rotated(x: Tensor) -> Tensor:
        half = config.head_dim // 2
        frequencies = config.rope_theta ** -(torch.arange(half, dtype=x.dtype) / half)
        turns = torch.polar(torch.ones(()), torch.arange(len(ids))[:, None] * frequencies)
        turned = torch.complex(x[..., :half], x[..., half:]) * turns
        return torch.cat((turned.real, turned.imag), -1)

    x = named("wte")[ids]
    for index in range(config.num_layers):
        block = f"blocks.{index}"
        normed = norm(x, f"{block}.attn_norm")
        q = rotated(heads(normed, f"{block}.q_proj", config.num_heads))
        k = rotated(heads(normed, f"{block}.k_proj", config.num_kv_heads))
        v = heads(normed, f"{block}.v_proj", config.num_kv_heads)
        groups = config.num_heads // config.num_kv_heads
        scores = q @ k.repeat_interleave(groups, 0).transpose(1, 2) / math.sqrt(config.head_dim)
        attended = (scores.softmax(-1) @ v.repeat_interleave(groups, 0)).transpose(0, 1).reshape(len(ids), -1)
        x = x + attended @ named(f"{block}.attn_out").T
        normed = norm(x, f"{block}.ff_norm")
        gate, up = normed @ named(f"{block}.ff_proj").T, normed @ named(f"{block}.up_proj").T
        x = x + (gate / (1 + (-gate).exp()) * up) @ named(f"{block}.ff_out").T
    return norm(x, "ln_f")


def weights_of(directory: Path) -> dict[str, Tensor]:
    return {
        name: tensor.float()
        for path in directory.glob("model*.safetensors")
        for name, tensor in load_file(path).items()
    }


@pytest.mark.parametrize("name", ["tiny", "odd"])
@torch.inference_mode()
def test_packed_sequences_get_what_a_plain_transformer_gives_each(name: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(f"{name}_model")
    weights = weights_of(request.getfixturevalue(f"{name}_checkpoint"))
    sequences = [torch.arange(start, start + length) for start, length in ((0, 9), (350, 40), (8000, 1))]
    packed = model.transformer(pack([read_everything(ids) for ids in sequences], CPU))
    for ids, got in zip(sequences, packed.split([len(ids) for ids in sequences]), strict=True):
        expected = plain_hidden(weights, model.config, ids)
        torch.testing.assert_close(got, expected, atol=2e-4, rtol=0)
        columns = slice(300, 8600)
        logits = model.transformer.logits(got, columns)
        head = weights["model.transformer.ff_out.weight"][columns]
        torch.testing.assert_close(logits, expected @ head.T, atol=2e-3, rtol=0)


@torch.inference_mode()
def test_reading_some_positions_gives_the_same_as_reading_all(odd_model: Model) -> None:
    sequences = [torch.arange(20), torch.arange(100, 131), torch.arange(5)]
    everything = odd_model.transformer(pack([read_everything(ids) for ids in sequences], CPU))
    reads = [torch.tensor([3, 4, 19]), torch.tensor([], dtype=torch.int64), torch.tensor([0])]
    some = odd_model.transformer(pack([SequenceView(*pair) for pair in zip(sequences, reads, strict=True)], CPU))
    torch.testing.assert_close(some, everything[[3, 4, 19, 51]], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_an_observer_sees_every_layer_and_in_the_last_one_the_read_rows_only(odd_model: Model) -> None:
    seen: dict[int, Tensor] = {}
    batch = pack([SequenceView(torch.arange(12), torch.tensor([2, 7]))], CPU)
    odd_model.transformer(batch, observe=seen.__setitem__)
    assert [len(seen[index]) for index in sorted(seen)] == [12, 12, 2]


def test_a_layout_counts_queries_and_keys_of_each_sequence() -> None:
    layout = PackedLayout.of_lengths([2, 0, 3], [4, 5, 3])
    assert layout.spans() == [
        (slice(0, 2), slice(0, 4)),
        (slice(2, 2), slice(4, 9)),
        (slice(2, 5), slice(9, 12)),
    ]
    assert (layout.max_num_queries, layout.max_num_keys) == (3, 5)
    queries, keys, num_keys = layout.offsets_on(CPU)
    assert queries.dtype == keys.dtype == num_keys.dtype == torch.int32
    assert (queries.tolist(), keys.tolist(), num_keys.tolist()) == ([0, 2, 2, 5], [0, 4, 9, 12], [4, 5, 3])
    assert layout.offsets_on(CPU)[0] is queries


def test_keys_may_be_kept_with_those_of_others_between_them() -> None:
    layout = PackedLayout.of_lengths([2, 3], [4, 3], (5, 20))
    assert layout.spans() == [(slice(0, 2), slice(5, 9)), (slice(2, 5), slice(20, 23))]
    assert layout.groups() == [(1, *span) for span in layout.spans()]
    _, keys, num_keys = layout.offsets_on(CPU)
    assert (keys.tolist(), num_keys.tolist()) == ([5, 20, 23], [4, 3])


def test_packing_restarts_positions_in_each_sequence() -> None:
    batch = pack([SequenceView(torch.tensor([7, 8]), torch.tensor([1])), read_everything(torch.tensor([9]))], CPU)
    assert batch.ids_T.tolist() == [7, 8, 9]
    assert batch.positions_T.tolist() == [0, 1, 0]
    assert batch.read_R.tolist() == [1, 2]
    assert batch.read_layout.query_offsets == (0, 1, 2)


def test_a_batch_without_sequences_is_refused() -> None:
    with pytest.raises(ValueError, match="without streams"):
        pack([], CPU)


def test_rows_of_a_long_batch_go_through_the_mlp_in_tiles_without_changing_a_bit(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer = tiny_model.transformer
    transformer.invariance_policy = probe_invariance_policy(transformer.linear_shapes(), CPU)
    ids = torch.randint(300, (1100,), generator=torch.Generator().manual_seed(0))
    batch = pack([read_everything(ids[:700]), read_everything(ids[700:])], CPU)
    with torch.inference_mode():
        whole = transformer(batch)
        monkeypatch.setattr("dimoo_core.model.batch_invariance._TILE_BYTES", 0)
        assert len(even_tiles(len(ids), 4)) == 3
        assert torch.equal(transformer(batch), whole)
