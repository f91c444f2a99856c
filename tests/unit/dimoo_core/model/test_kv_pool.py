"""Slabs of keys and values as ranges of pools, and the attention kernel of CUDA that reads them there.

The kernel is played by a plain computation of what its documentation promises; the real one starts on CUDA only.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.engine.engine import Engine
from dimoo_core.model.kv_pool import KVAllocator, KVBlock, KVPool, allocator_within, kv_bytes
from dimoo_core.presets import find_preset
from dimoo_core.request.request import Request
from dimoo_core.settings import ImageSettings, StepCacheConfig
from tests.support.engine_run import SHORT_TEXT, SMALL_IMAGE, answer_of, ids_of, image_of, run_all

CPU = torch.device("cpu")


def allocator_of(model: Model, pool_tokens: int) -> KVAllocator:
    return KVAllocator(model.config, device=CPU, dtype=torch.float32, pool_tokens=pool_tokens)


def test_blocks_lie_in_one_pool_as_long_as_it_has_room(tiny_model: Model) -> None:
    allocator = allocator_of(tiny_model, 10)
    first, second, third = (allocator.block(length) for length in (4, 6, 3))
    assert (first.pool, first.start, second.start) == (second.pool, 0, 4)
    assert third.pool is not first.pool
    assert [len(block) for block in (first, second, third)] == [4, 6, 3]


def test_the_range_of_a_block_that_is_gone_is_used_again_and_pools_without_blocks_are_let_go(tiny_model: Model) -> None:
    allocator = allocator_of(tiny_model, 10)
    blocks = [allocator.block(5), allocator.block(5)]
    pool = blocks[0].pool
    del blocks[0]
    again = allocator.block(4)
    assert (again.pool, again.start) == (pool, 0)
    del blocks, again
    allocator.reclaim()
    assert pool.is_unused
    assert allocator.block(1).pool is not pool


def test_what_is_larger_than_a_pool_has_one_of_its_own(tiny_model: Model) -> None:
    allocator = allocator_of(tiny_model, 10)
    shared, large = allocator.block(2), allocator.block(12)
    assert large.pool is not shared.pool
    assert large.keys_LTGD.shape == large.pool.keys_LPGD.shape


def test_where_no_pool_fits_any_more_a_block_takes_what_it_needs(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = KVPool.__init__

    def limited(pool: KVPool, config: Any, length: int, **options: Any) -> None:
        if length > 5:
            raise torch.OutOfMemoryError("no memory left")
        make(pool, config, length, **options)

    monkeypatch.setattr(KVPool, "__init__", limited)
    allocator = allocator_of(tiny_model, 10)
    assert len(allocator.block(5)) == 5
    with pytest.raises(torch.OutOfMemoryError):
        allocator.block(6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=30))
def test_ranges_never_overlap_whatever_is_taken_and_given_back(asked: list[tuple[bool, int]]) -> None:
    from benchmarks.shape import TINY

    pool = KVPool(TINY.config, 32, device=torch.device("meta"), dtype=torch.float32)
    held: list[tuple[int, int]] = []
    for gives_back, length in asked:
        if gives_back and held:
            pool.give_back(*held.pop(length % len(held)))
        elif (start := pool.take(length)) is not None:
            held.append((start, length))
        rows = [row for start, length in held for row in range(start, start + length)]
        assert len(rows) == len(set(rows)) <= 32
    for start, length in held:
        pool.give_back(start, length)
    assert pool.is_unused


class Kernel:
    """``varlen_attn`` as documented, with what it was called with."""

    def __init__(self) -> None:
        self.num_calls = 0
        self.num_pooled = 0

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        enable_gqa: bool = False,
        seqused_k: Tensor | None = None,
        num_splits: int | None = None,
    ) -> Tensor:
        self.num_calls += 1
        self.num_pooled += seqused_k is not None
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        assert cu_seq_k.diff().min() >= 0, "offsets ascend"
        assert enable_gqa == (query.shape[1] != key.shape[1])
        parts = []
        starts = pairwise(cu_seq_k.tolist())
        for index, ((q0, q1), (k0, k1)) in enumerate(zip(pairwise(cu_seq_q.tolist()), starts, strict=True)):
            end = k1 if seqused_k is None else k0 + int(seqused_k[index])
            assert q1 - q0 <= max_q
            assert end - k0 <= max_k
            assert end <= k1, "a stream's keys end before the next one's begin"
            q, k, v = (x.transpose(0, 1) for x in (query[q0:q1], key[k0:end], value[k0:end]))
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=enable_gqa)
            parts.append(out.transpose(0, 1))
        return torch.cat(parts)


def play_cuda(monkeypatch: pytest.MonkeyPatch, *, reads_ranges: bool) -> Kernel:
    """CUDA's path from here on: pools that streams share, and one call for all streams of a pool."""
    played = Kernel()

    def older(*args: Any, num_splits: int | None = None) -> Tensor:
        return played(*args, num_splits=num_splits)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", played if reads_ranges else older)
    monkeypatch.setattr("dimoo_core.model.attention.has_kernel_for_all", lambda _: True)
    allocate = KVAllocator.__init__

    def shared(allocator: KVAllocator, *args: Any, **options: Any) -> None:
        allocate(allocator, *args, **options | {"pool_tokens": 300})

    monkeypatch.setattr(KVAllocator, "__init__", shared)
    return played


def requests_of(model: Model) -> list[Request]:
    """Exact and cached ones of both tasks, so that batches mix streams with and without slabs."""
    balanced, fast = find_preset("balanced"), find_preset("fast")
    image = replace(SMALL_IMAGE, num_steps=7)
    wide = ImageSettings(width_px=96, height_px=32, num_steps=9, step_cache=StepCacheConfig(warmup_ratio=0.2))
    return [
        image_of(model, "exact", settings=image),
        image_of(model, "balanced", prompt="two cats near the window", settings=balanced.image(image)),
        image_of(model, "fast", settings=fast.image(image)),
        image_of(model, "reference", settings=wide),
        answer_of(model, "answer"),
        answer_of(model, "dual", settings=balanced.text(SHORT_TEXT)),
    ]


@pytest.mark.parametrize("reads_ranges", [True, False], ids=["reads ranges", "an older kernel"])
@pytest.mark.parametrize("name", ["tiny", "odd"])
def test_pools_and_the_kernel_for_all_sequences_give_every_request_its_own_tokens(
    name: str, reads_ranges: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Model = request.getfixturevalue(f"{name}_model")
    expected = run_all(Engine(model.transformer, model.tokens), requests_of(model))
    kernel = play_cuda(monkeypatch, reads_ranges=reads_ranges)
    engine = Engine(model.transformer, model.tokens)
    results: dict[str, list[int]] = {}
    for later in requests_of(model):  # slabs of different ages beside each other
        engine.submit(later)
        results |= {result.request_id: ids_of(result) for result in engine.step()}
    results |= {name: ids_of(result) for name, result in run_all(engine).items()}
    assert results == {name: ids_of(result) for name, result in expected.items()}
    assert (kernel.num_pooled > 0) == reads_ranges
    # In every layer of a step at most a call for the streams without slabs and one for each pool.
    assert kernel.num_calls <= 3 * engine.stats.num_steps * model.config.num_layers


def test_pools_are_for_cuda_and_no_larger_than_a_share_of_the_budget(tiny_model: Model) -> None:
    a_token = kv_bytes(tiny_model.config, 1, torch.float32)
    for device, budget, expected in (("cuda", 400, 100), ("cuda", 10**9, 32_768), ("cpu", 10**9, 0)):
        allocator = allocator_within(budget * a_token, tiny_model.config, torch.device(device), torch.float32)
        assert allocator.pool_tokens == expected


def test_what_a_block_holds_is_seen_through_its_pool(tiny_model: Model) -> None:
    allocator = allocator_of(tiny_model, 10)
    blocks: list[KVBlock] = [allocator.block(3), allocator.block(4)]
    blocks[1].keys_LTGD[:] = 7.0
    assert (blocks[0].pool.keys_LPGD[:, 3:7] == 7.0).all()
    assert blocks[0].place < blocks[1].place
