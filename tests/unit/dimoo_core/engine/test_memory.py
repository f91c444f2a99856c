import psutil
import pytest
import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.engine.engine import Engine
from dimoo_core.engine.memory import cache_budget, profile_step
from dimoo_core.model.packed_batch import PackedBatch
from dimoo_core.settings import EngineConfig


def test_on_a_cpu_caches_may_take_a_share_of_the_memory_that_is_free(tiny_model: Model) -> None:
    budget = cache_budget(tiny_model.transformer, tiny_model.tokens, 16_384)
    assert 0 < budget < psutil.virtual_memory().total / 2


@pytest.mark.parametrize(("num_tokens", "lengths"), [(50, [50]), (4096, [4096]), (5000, [4096, 904])])
def test_a_step_is_profiled_with_as_many_tokens_as_it_may_have_and_all_of_them_read(
    tiny_model: Model, num_tokens: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[PackedBatch] = []

    def forward(batch: PackedBatch) -> Tensor:
        seen.append(batch)
        return torch.zeros(len(batch.read_R), tiny_model.config.hidden_size)

    monkeypatch.setattr(tiny_model.transformer, "forward", forward)
    profile_step(tiny_model.transformer, tiny_model.tokens, num_tokens)
    (batch,) = seen
    assert len(batch.ids_T) == len(batch.read_R) == num_tokens
    assert batch.layout.query_offsets[1:] == tuple(sum(lengths[: index + 1]) for index in range(len(lengths)))


def test_an_engine_keeps_to_the_budget_that_it_is_given(tiny_model: Model) -> None:
    engine = Engine(tiny_model.transformer, tiny_model.tokens, EngineConfig(max_cache_bytes=12_345))
    assert engine._scheduler.max_cache_bytes == 12_345
