"""What the engine does when memory is short: smaller steps, caches given up, one request that fails alone."""

import pickle
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from dimoo_core.checkpoint.load import Model
from dimoo_core.engine.engine import Engine
from dimoo_core.errors import BatchTooLarge
from dimoo_core.model.kv_pool import KVAllocator, KVBlock
from dimoo_core.request.request import RequestFailed
from dimoo_core.settings import EngineConfig, ImageSettings, TargetCacheConfig
from tests.support.engine_run import SMALL_IMAGE, ids_of, image_of, memory_for, run_all


def engine_of(model: Model, config: EngineConfig | None = None) -> Engine:
    return Engine(model.transformer, model.tokens, config)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(tiny_model: Model) -> None:
    requests = [image_of(tiny_model, f"image {index}", prompt=f"boat {index}") for index in range(5)]
    expected = run_all(engine_of(tiny_model), requests)
    limit = 2 * requests[0].num_tokens
    engine = engine_of(tiny_model)
    with memory_for(tiny_model, limit) as asked:
        results = run_all(engine, requests)
    assert {key: ids_of(result) for key, result in results.items()} == {
        key: ids_of(result) for key, result in expected.items()
    }
    assert [num_tokens > limit for num_tokens in asked[:2]] == [True, False]
    assert sum(num_tokens > limit for num_tokens in asked) == 1
    assert sum(num_tokens for num_tokens in asked if num_tokens <= limit) == engine.stats.num_tokens


@pytest.mark.parametrize("place", [0, 1, 3])
def test_only_the_request_that_does_not_fit_alone_fails(tiny_model: Model, place: int) -> None:
    small = [image_of(tiny_model, f"small {index}", prompt=f"boat {index}") for index in range(3)]
    large = image_of(tiny_model, "large", settings=ImageSettings(width_px=256, height_px=256, num_steps=2))
    expected = run_all(engine_of(tiny_model), small)
    engine = engine_of(tiny_model)
    with memory_for(tiny_model, large.num_tokens - 1):
        results = run_all(engine, [*small[:place], large, *small[place:]])
    failed = results.pop("large")
    assert isinstance(failed, RequestFailed)
    assert isinstance(failed.error, BatchTooLarge)
    assert isinstance(failed.error.__cause__, torch.OutOfMemoryError)
    assert f"{large.num_tokens} tokens do not fit into the memory of cpu" in str(failed.error)
    assert str(pickle.loads(pickle.dumps(failed.error))) == str(failed.error)
    assert {key: ids_of(result) for key, result in results.items()} == {
        key: ids_of(result) for key, result in expected.items()
    }


def test_a_request_that_did_not_fit_does_not_make_later_batches_smaller(tiny_model: Model) -> None:
    large = image_of(tiny_model, "large", settings=ImageSettings(width_px=256, height_px=256, num_steps=2))
    engine = engine_of(tiny_model)
    with memory_for(tiny_model, large.num_tokens - 1) as asked:
        run_all(engine, [image_of(tiny_model, "first"), large])
        asked.clear()
        later = [image_of(tiny_model, f"later {index}", prompt=f"boat {index}") for index in range(3)]
        run_all(engine, later)
    assert asked[1] == sum(request.num_tokens for request in later)


def test_a_failure_does_not_keep_the_tensors_of_the_pass_that_failed(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def forward(*_: object) -> torch.Tensor:
        activations = torch.zeros(1000)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("no memory left")

    freed_before: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed_before.append(held[-1]() is None))
    monkeypatch.setattr(tiny_model.transformer, "forward", forward)
    (failed,) = run_all(engine_of(tiny_model), [image_of(tiny_model, "image")]).values()
    assert isinstance(failed, RequestFailed)
    assert isinstance(failed.error.__cause__, torch.OutOfMemoryError)
    assert [tensor() for tensor in held] == [None]
    assert freed_before == [True], "memory went back before the allocator was asked for it"


@contextmanager
def memory_for_slabs(monkeypatch: pytest.MonkeyPatch, num_tokens: int) -> Iterator[None]:
    """Keys and values of so many tokens fit into memory, at any one time."""
    alive: weakref.WeakSet[KVBlock] = weakref.WeakSet()
    allocate = KVAllocator.block

    def limited(allocator: KVAllocator, length: int) -> KVBlock:
        if sum(map(len, alive)) + length > num_tokens:
            raise torch.OutOfMemoryError("no memory left")
        alive.add(block := allocate(allocator, length))
        return block

    with monkeypatch.context() as patch:
        patch.setattr(KVAllocator, "block", limited)
        yield


def test_caches_that_do_not_fit_together_are_given_up_and_their_requests_start_again(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SMALL_IMAGE, num_steps=6, step_cache=TargetCacheConfig())
    requests = [image_of(tiny_model, f"{index}", prompt=f"boat {index}", settings=settings) for index in range(4)]
    plain = [image_of(tiny_model, f"plain {index}") for index in range(2)]
    expected = run_all(engine_of(tiny_model), [*requests, *plain])
    engine = engine_of(tiny_model)
    with memory_for_slabs(monkeypatch, requests[0].num_tokens * 2):
        results = run_all(engine, [*requests, *plain])
    assert {key: ids_of(result) for key, result in results.items()} == {
        key: ids_of(result) for key, result in expected.items()
    }


def test_a_cache_that_does_not_fit_alone_fails_its_request_and_no_other(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(SMALL_IMAGE, step_cache=TargetCacheConfig())
    requests = [image_of(tiny_model, f"{index}", prompt=f"boat {index}", settings=small) for index in range(3)]
    large = image_of(tiny_model, "large", settings=replace(small, width_px=256, height_px=256))
    expected = run_all(engine_of(tiny_model), requests)
    with memory_for_slabs(monkeypatch, requests[0].num_tokens + 1):
        results = run_all(engine_of(tiny_model), [requests[0], large, *requests[1:]])
    assert isinstance(results.pop("large"), RequestFailed)
    assert {key: ids_of(result) for key, result in results.items()} == {
        key: ids_of(result) for key, result in expected.items()
    }
