"""Rows of a matrix product that do not depend on how many are computed together."""

import pytest
import torch
import torch.nn.functional as F

from dimoo_core.model.batch_invariance import (
    FREE,
    InvariancePolicy,
    LinearShape,
    even_tiles,
    linear,
    probe_invariance_policy,
    silu,
)

CPU = torch.device("cpu")
POLICIES = [FREE, InvariancePolicy(min_rows=16), InvariancePolicy(tile_rows=32)]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("num_rows", [0, 1, 15, 32, 33, 100])
def test_every_policy_computes_the_same_product(policy: InvariancePolicy, num_rows: int) -> None:
    x, weight = torch.randn(num_rows, 24), torch.randn(10, 24)
    got = linear(x, weight, policy)
    assert got.shape == (num_rows, 10)
    torch.testing.assert_close(got, F.linear(x, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("num_inputs", "num_outputs"), [(64, 192), (48, 600)])
def test_the_probed_policy_makes_rows_independent_of_their_number(
    dtype: torch.dtype, num_inputs: int, num_outputs: int
) -> None:
    policy = probe_invariance_policy([LinearShape(num_inputs, num_outputs, dtype)], CPU)
    x, weight = torch.randn(700, num_inputs).to(dtype), torch.randn(num_outputs, num_inputs).to(dtype)
    whole = linear(x, weight, policy)
    for start, end in ((0, 1), (5, 8), (100, 117), (3, 67), (1, 700), (650, 700)):
        assert torch.equal(linear(x[start:end], weight, policy), whole[start:end])


def test_on_cuda_rows_are_tiled_without_a_probe() -> None:
    assert probe_invariance_policy([LinearShape(64, 64, torch.bfloat16)], torch.device("cuda")).tile_rows == 256


@pytest.mark.parametrize("num_rows", [0, 1, 511, 512, 513, 2048, 5000])
@pytest.mark.parametrize("row_bytes", [16, 6144, 100_000])
def test_tiles_cover_the_rows_in_order_and_none_is_so_small_that_it_would_be_padded(
    num_rows: int, row_bytes: int
) -> None:
    rows = list(range(num_rows))
    tiles = even_tiles(num_rows, row_bytes)
    assert [row for tile in tiles for row in rows[tile]] == rows
    sizes = [len(rows[tile]) for tile in tiles]
    assert max(sizes) <= max(512, 12 * 2**20 // row_bytes)
    assert min(sizes) >= 256 or sizes == [num_rows]


def test_nothing_is_probed_without_memory() -> None:
    assert probe_invariance_policy([LinearShape(64, 64, torch.bfloat16)], torch.device("meta")) == FREE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 7, 160, 768, 12288])
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_silu_computes_a_row_alike_wherever_it_lies(dtype: torch.dtype, width: int, num_threads: int) -> None:
    num_threads_before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        gate_and_up = (3 * torch.randn(90, 2 * width)).to(dtype)
        gate = gate_and_up.chunk(2, dim=-1)[0]
        whole = silu(gate, POLICIES[1])
        torch.testing.assert_close(whole, F.silu(gate))
        for start, end in ((0, 1), (3, 10), (5, 52), (1, 90)):
            assert torch.equal(silu(gate[start:end], POLICIES[1]), whole[start:end])
            assert torch.equal(silu(gate[start:end].contiguous(), POLICIES[1]), whole[start:end])
    finally:
        torch.set_num_threads(num_threads_before)
