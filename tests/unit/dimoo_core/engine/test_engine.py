"""The engine between steps: what it computes once, how long it may take, what comes back."""

from dataclasses import replace

import pytest
import torch

from dimoo_core.checkpoint.load import Model
from dimoo_core.engine.engine import Engine
from dimoo_core.errors import RequestTimedOut
from dimoo_core.model.packed_batch import PackedBatch
from dimoo_core.request.request import ImageResult, RequestFailed, TextResult
from dimoo_core.settings import EngineConfig, TargetCacheConfig
from tests.support.engine_run import SMALL_IMAGE, answer_of, ids_of, image_codes, image_of, memory_for, run_all


def engine_of(model: Model, config: EngineConfig | None = None) -> Engine:
    return Engine(model.transformer, model.tokens, config)


def test_an_engine_with_nothing_to_do_returns_nothing(tiny_model: Model) -> None:
    engine = engine_of(tiny_model)
    assert engine.step() == []
    assert engine.num_unfinished == 0
    assert engine.stats.num_steps == 0


def test_requests_of_both_tasks_join_and_leave_between_steps(tiny_model: Model) -> None:
    engine = engine_of(tiny_model)
    engine.submit(image_of(tiny_model, "first"))
    assert engine.step() == []
    engine.submit(answer_of(tiny_model, "second"))
    assert engine.num_unfinished == 2
    returned = [[result.request_id for result in engine.step()] for _ in range(6)]
    assert returned == [[], [], ["first"], [], [], ["second"]]
    assert engine.num_unfinished == 0
    assert engine.stats.num_steps == 7


def test_a_request_without_room_can_be_withdrawn_until_its_first_step(tiny_model: Model) -> None:
    first, second, third = (image_of(tiny_model, name) for name in ("first", "second", "third"))
    engine = engine_of(tiny_model, EngineConfig(max_step_tokens=first.num_tokens))
    for request in (first, second, third):
        engine.submit(request)
    engine.step()
    assert engine.queued() == {"second", "third"}
    engine.abort("second")
    with pytest.raises(ValueError, match="request 'first' does not wait for its first step"):
        engine.abort("first")
    results = [result.request_id for _ in range(20) for result in engine.step()]
    assert results == ["first", "third"]
    assert engine.num_unfinished == 0


def test_sequences_of_equal_lengths_are_neighbours_whatever_lies_between_their_requests(tiny_model: Model) -> None:
    wide = replace(SMALL_IMAGE, width_px=96)
    requests = [
        image_of(tiny_model, str(index), prompt=prompt, settings=settings)
        for index, (prompt, settings) in enumerate(
            [("a red boat", SMALL_IMAGE), ("a boat", wide), ("two cats", SMALL_IMAGE), ("a red boat on a lake", wide)]
        )
    ]
    seen: list[PackedBatch] = []
    hook = tiny_model.transformer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    results = run_all(engine_of(tiny_model), [*requests, answer_of(tiny_model, "answer")])
    hook.remove()
    counts = [[count for count, *_ in batch.layout.groups()] for batch in seen]
    # Prompts differ, and so do the lengths of streams that hold them; those without a prompt are two and two alike.
    assert sorted(counts[1]) == [1, 1, 1, 1, 1, 2, 2]
    for request in requests:
        alone = run_all(engine_of(tiny_model), [request])[request.request_id]
        assert ids_of(results[request.request_id]) == ids_of(alone)


def test_a_result_says_what_it_took(tiny_model: Model) -> None:
    request = image_of(tiny_model, "image")
    engine = engine_of(tiny_model)
    results = run_all(engine, [request, answer_of(tiny_model, "answer")])
    image, answer = results["image"], results["answer"]
    assert isinstance(image, ImageResult)
    assert isinstance(answer, TextResult)
    assert image.vq_codes.shape == (2, 3)
    assert 0 <= int(image.vq_codes.min()) <= int(image.vq_codes.max()) < 8192
    assert (image.num_steps, answer.num_steps) == (4, 6)
    assert image.num_tokens == 4 * request.num_tokens
    assert image.num_tokens + answer.num_tokens == engine.stats.num_tokens
    assert 0 < image.engine_s <= answer.engine_s
    assert engine.stats.busy_s > 0
    assert engine.stats.num_tokens_reused == 0


def test_a_request_can_be_run_again(tiny_model: Model) -> None:
    """As after the loss of a worker: running it must leave it as it was."""
    request = image_of(tiny_model, "image")
    before = request.target.clone()
    first = run_all(engine_of(tiny_model), [request])["image"]
    assert torch.equal(request.target, before)
    assert ids_of(run_all(engine_of(tiny_model), [request])["image"]) == ids_of(first)


def test_an_image_of_which_everything_is_known_comes_back_without_a_step(tiny_model: Model) -> None:
    request = image_of(tiny_model, "image")
    known = torch.where(request.target == tiny_model.tokens.mask, tiny_model.tokens.image_offset + 5, request.target)
    engine = engine_of(tiny_model)
    codes = image_codes(run_all(engine, [replace(request, target=known)])["image"])
    assert codes.unique().tolist() == [5]
    assert engine.stats.num_tokens == 0


def test_equal_sequences_of_new_requests_are_computed_once(tiny_model: Model) -> None:
    """Three seeds of one prompt: at the first step one conditional and one unconditional stream serve all three."""
    requests = [image_of(tiny_model, f"seed {index}") for index in range(3)]
    engine = engine_of(tiny_model)
    for request in requests:
        engine.submit(request)
    engine.step()
    num_tokens = requests[0].num_tokens
    assert (engine.stats.num_tokens, engine.stats.num_tokens_shared) == (num_tokens, 2 * num_tokens)
    engine.step()
    assert (engine.stats.num_tokens, engine.stats.num_tokens_shared) == (4 * num_tokens, 2 * num_tokens)
    assert engine.stats.num_tokens_reused == 0
    results = run_all(engine)
    assert [results[request.request_id].num_tokens for request in requests] == [  # type: ignore[union-attr]
        4 * num_tokens,
        3 * num_tokens,
        3 * num_tokens,
    ]


def test_images_of_one_size_share_the_unconditional_sequence(tiny_model: Model) -> None:
    boat, cat = image_of(tiny_model, "boat"), image_of(tiny_model, "cat", prompt="three cats")
    other_size = image_of(tiny_model, "wide", settings=replace(SMALL_IMAGE, width_px=64))
    engine = engine_of(tiny_model)
    for request in (boat, cat, other_size):
        engine.submit(request)
    engine.step()
    assert engine.stats.num_tokens_shared == len(boat.sequences[1].around(boat.target))


def test_an_image_and_an_answer_with_equal_ids_share_nothing(tiny_model: Model) -> None:
    """They read other columns, and other positions."""
    engine = engine_of(tiny_model)
    for request in (image_of(tiny_model, "image"), answer_of(tiny_model, "answer")):
        engine.submit(request)
    engine.step()
    assert engine.stats.num_tokens_shared == 0


def test_a_request_that_takes_too_long_ends_and_others_go_on(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("dimoo_core.engine.engine.time.perf_counter", lambda: now_s)
    engine = Engine(tiny_model.transformer, tiny_model.tokens, max_request_s=10.0)
    engine.submit(image_of(tiny_model, "early"))
    assert engine.step() == []
    now_s = 105.0
    engine.submit(image_of(tiny_model, "late"))
    assert engine.step() == []
    now_s = 110.5
    (failed,) = engine.step()
    assert isinstance(failed, RequestFailed)
    assert failed.request_id == "early"
    assert isinstance(failed.error, RequestTimedOut)
    assert "having run 3 steps" in str(failed.error)
    results = [result for _ in range(2) for result in engine.step()]
    assert [type(result) for result in results] == [ImageResult]
    assert engine.num_unfinished == 0


def test_refreshes_of_cached_requests_spread_and_keep_steps_near_the_limit(tiny_model: Model) -> None:
    cached = replace(
        SMALL_IMAGE, width_px=64, height_px=64, num_steps=12, cfg_scale=0.0, step_cache=TargetCacheConfig()
    )
    requests = [image_of(tiny_model, str(index), prompt=f"boat {index}", settings=cached) for index in range(24)]
    limit = 3 * requests[0].num_tokens
    engine = engine_of(tiny_model, EngineConfig(max_step_tokens=limit, max_step_interval=64))
    with memory_for(tiny_model, 10**9) as asked:
        for request in requests:
            engine.submit(request)
        while engine._scheduler.waiting:
            engine.step()
        while_there_was_more = asked[:-1]
        run_all(engine)
    assert sum(asked) == engine.stats.num_tokens
    assert max(asked) <= limit
    largest = max(request.num_tokens for request in requests)
    assert min(while_there_was_more) > limit - largest  # no room for another one


def test_no_forward_pass_is_larger_than_the_limit(tiny_model: Model) -> None:
    requests = [image_of(tiny_model, f"image {index}", prompt=f"boat {index}") for index in range(6)]
    limit = 3 * requests[0].num_tokens + 1
    with memory_for(tiny_model, 10**9) as asked:
        run_all(engine_of(tiny_model, EngineConfig(max_step_tokens=limit)), requests)
    assert limit / 2 < max(asked) <= limit


def test_without_batch_invariance_products_are_not_padded(tiny_model: Model) -> None:
    engine_of(tiny_model, EngineConfig(batch_invariance="off"))
    assert tiny_model.transformer.invariance_policy.min_rows == 1
    engine_of(tiny_model, EngineConfig(batch_invariance="on"))
    assert tiny_model.transformer.invariance_policy.min_rows > 1 or tiny_model.transformer.invariance_policy.tile_rows
