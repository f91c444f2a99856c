"""Layers whose matrices are of 8-bit floats."""

from pathlib import Path
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo_core.checkpoint.load import Model, load_model
from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from dimoo_core.errors import ConfigError
from dimoo_core.model.batch_invariance import InvariancePolicy, LinearShape, linear, probe_invariance_policy
from dimoo_core.model.float8 import FLOAT8, Float8Weight
from dimoo_core.model.packed_batch import pack, read_everything
from dimoo_core.model.transformer import Block, Transformer
from dimoo_core.model_config import ModelConfig

CPU = torch.device("cpu")


def random_matrix(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm())


@pytest.mark.parametrize("num_rows", [1, 3, 64, 100])
def test_a_product_is_that_of_the_rounded_numbers(num_rows: int) -> None:
    x, matrix = random_matrix(num_rows, 96, seed=1), random_matrix(48, 96)
    x[0] *= 1000  # every row has a scale of its own
    weight = Float8Weight.of(matrix)
    scales = x.abs().amax(-1, keepdim=True).float() / 448
    rounded = (x.float() / scales).to(FLOAT8).float() * scales
    expected = rounded @ (weight.values_OI.float() * weight.scales_O1).T
    got = weight.product(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected, rtol=2**-7, atol=1e-3 * float(expected.abs().max()))
    assert 0 < relative_error(got, F.linear(x, matrix)) < 0.05


def test_each_row_of_a_weight_keeps_its_own_magnitude() -> None:
    matrix = random_matrix(32, 64) * torch.logspace(-6, 6, 32)[:, None].to(torch.bfloat16)
    weight = Float8Weight.of(matrix)
    for row in range(32):
        assert relative_error(weight.values_OI[row].float() * weight.scales_O1[row], matrix[row]) < 0.04


def test_rows_of_zeros_and_no_rows_at_all_are_multiplied_too() -> None:
    weight = Float8Weight.of(random_matrix(32, 64))
    weight[:16].copy_(torch.zeros(16, 64))
    assert weight.product(random_matrix(0, 64)).shape == (0, 32)
    assert torch.equal(weight.product(torch.zeros(2, 64, dtype=torch.bfloat16)), torch.zeros(2, 32))
    assert torch.equal(weight.product(random_matrix(2, 64))[:, :16], torch.zeros(2, 16))


def test_a_part_of_a_weight_is_multiplied_like_the_whole() -> None:
    x, weight = random_matrix(20, 64), Float8Weight.of(random_matrix(48, 64))
    assert weight[16:].shape == (32, 64)
    assert torch.equal(weight[16:].product(x), weight.product(x)[:, 16:])


@pytest.mark.parametrize(("num_outputs", "num_inputs"), [(40, 64), (64, 40)])
def test_sides_that_no_kernel_takes_are_refused(num_outputs: int, num_inputs: int) -> None:
    with pytest.raises(ConfigError, match=f"multiples of 16, the checkpoint has one of {num_outputs}x{num_inputs}"):
        Float8Weight.empty(num_outputs, num_inputs, device=CPU)


def test_a_gpu_that_cannot_multiply_them_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(ConfigError, match=r"compute capability 8\.9 or newer .* this one has 8\.0: use bfloat16"):
        Float8Weight.empty(32, 32, device="cuda")


@pytest.mark.parametrize(("num_inputs", "num_outputs"), [(64, 192), (192, 1008)])
def test_the_probed_policy_makes_rows_independent_of_their_number(num_inputs: int, num_outputs: int) -> None:
    shape = (num_inputs, num_outputs)
    policy = probe_invariance_policy([LinearShape(*shape, FLOAT8), LinearShape(*shape, torch.bfloat16)], CPU)
    matrix = random_matrix(num_outputs, num_inputs)
    x = random_matrix(700, num_inputs, seed=1)
    for weight in (matrix, Float8Weight.of(matrix)):
        whole = linear(x, weight, policy)
        for start, end in ((0, 1), (5, 8), (100, 117), (3, 67), (1, 700), (650, 700)):
            assert torch.equal(linear(x[start:end], weight, policy), whole[start:end])


@pytest.mark.parametrize("policy", [InvariancePolicy(min_rows=16), InvariancePolicy(tile_rows=32)])
def test_rows_that_are_padded_up_change_nothing(policy: InvariancePolicy) -> None:
    x, weight = random_matrix(7, 64), Float8Weight.of(random_matrix(32, 64))
    torch.testing.assert_close(linear(x, weight, policy), weight.product(x))


@pytest.fixture(scope="module")
def builtin() -> Path:
    return find_checkpoint(BUILTIN).directory


@pytest.fixture(scope="module")
def rounded(builtin: Path) -> Model:
    return load_model(builtin, dtype="float8")


def test_a_checkpoint_is_loaded_with_the_matrices_of_its_layers_rounded(builtin: Path, rounded: Model) -> None:
    exact = load_model(builtin, dtype="bfloat16").transformer
    assert (rounded.transformer.dtype, rounded.transformer.weight_dtype) == (torch.bfloat16, FLOAT8)
    assert torch.equal(rounded.transformer.head, exact.head)
    for block, other in zip(exact.blocks, rounded.transformer.blocks, strict=True):
        assert isinstance(block, Block)
        assert isinstance(other, Block)
        for name in ("qkv", "attn_out", "gate_up", "ff_out"):
            weight = cast("Float8Weight", getattr(other, name))
            assert relative_error(weight.values_OI.float() * weight.scales_O1, getattr(block, name)) < 0.04
        assert torch.equal(block.attn_norm.weight, other.attn_norm.weight)


def test_hidden_states_are_near_those_of_the_weights_before(builtin: Path, rounded: Model) -> None:
    exact = load_model(builtin, dtype="bfloat16")
    ids = torch.randint(0, exact.config.num_embeddings, (50,), generator=torch.Generator().manual_seed(0))
    batch = pack([read_everything(ids)], CPU)
    error = relative_error(rounded.transformer(batch), exact.transformer(batch))
    assert 0 < error < 0.2


def test_a_transformer_without_gpu_holds_half_the_bytes_in_its_layers() -> None:
    config = ModelConfig(hidden_size=64, num_heads=4, num_kv_heads=4, num_layers=1, mlp_size=160, num_embeddings=340)
    block = Transformer(config, dtype=FLOAT8).blocks[0]
    assert isinstance(block, Block)
    assert isinstance(block.gate_up, Float8Weight)
    assert block.gate_up.values_OI.nbytes == 2 * 160 * 64
