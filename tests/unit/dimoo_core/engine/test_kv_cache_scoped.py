"""Caches of answers and of image targets: what is computed, and what must not change."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.decoding.lookahead import PassPlan, num_looked_at
from dimoo_core.engine.engine import Engine
from dimoo_core.model.packed_batch import PackedBatch
from dimoo_core.request.request import Request
from dimoo_core.request.templates import TEXT_TO_IMAGE_SYSTEM
from dimoo_core.settings import (
    EngineConfig,
    ImageSettings,
    ParallelCommit,
    StepCacheConfig,
    TargetCacheConfig,
    TextCacheConfig,
    TextSettings,
)
from tests.support.engine_run import answer_of, ids_of, image_codes, image_of, noise_of, run_all, traces_of

TEXT = TextSettings(max_tokens=24, block_length=6, num_steps=12)
IMAGE = ImageSettings(width_px=96, height_px=64, num_steps=12, cfg_scale=3.0)


def engine_of(model: Model) -> Engine:
    return Engine(model.transformer, model.tokens)


def ids_alone(model: Model, request: Request) -> list[int]:
    return ids_of(run_all(engine_of(model), [request])[request.request_id])


def edit_of(model: Model, name: str, settings: ImageSettings) -> Request:
    """Two input images, guided by text and by image."""
    codes = [torch.randint(8192, (2, 3), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    system = TEXT_TO_IMAGE_SYSTEM
    return model.layout.image_to_image(name, system, "make it night", codes, settings, noise_of(name))


def computed_lengths(model: Model, request: Request) -> list[list[int]]:
    """Tokens of each stream in each forward pass."""
    forward, seen = model.transformer.forward, []

    def watched(batch: PackedBatch) -> Tensor:
        offsets = batch.layout.query_offsets
        seen.append([end - start for start, end in pairwise(offsets)])
        return forward(batch)

    model.transformer.forward = watched  # type: ignore[method-assign]
    try:
        run_all(engine_of(model), [request])
    finally:
        del model.transformer.forward
    return seen


@pytest.mark.parametrize("mode", ["prefix", "dual"])
@pytest.mark.parametrize("cfg_scale", [0.0, 1.5])
def test_a_text_cache_that_is_refreshed_at_every_step_changes_nothing(
    tiny_model: Model, mode: str, cfg_scale: float
) -> None:
    plain = replace(TEXT, cfg_scale=cfg_scale)
    cached = replace(plain, cache=TextCacheConfig(mode=mode, refresh_interval=1))  # type: ignore[arg-type]
    assert ids_alone(tiny_model, answer_of(tiny_model, "a", settings=cached)) == ids_alone(
        tiny_model, answer_of(tiny_model, "a", settings=plain)
    )


@pytest.mark.parametrize(("mode", "blocks"), [("dual", [6] * 4), ("prefix", [24, 18, 12, 6])])
def test_an_answer_computes_all_then_at_each_block_from_the_one_before_on_then_the_block(
    tiny_model: Model, mode: str, blocks: list[int]
) -> None:
    settings = replace(TEXT, cache=TextCacheConfig(mode=mode))  # type: ignore[arg-type]
    request = answer_of(tiny_model, "a", settings=settings)
    suffix = len(request.sequences[0].suffix)
    lengths = [length for (length,) in computed_lengths(tiny_model, request)]
    whole = len(request.sequences[0].around(request.target))
    firsts, others = [lengths[0], *lengths[3::3]], [lengths[1:3], lengths[4:6], lengths[7:9], lengths[10:12]]
    assert firsts == [whole, 24 + suffix, 18 + suffix, 12 + suffix]
    tail = suffix if mode == "prefix" else 0
    assert others == [[length + tail] * 2 for length in blocks]


def test_a_text_cache_recomputes_the_prompt_at_the_blocks_and_steps_that_it_is_told_to(tiny_model: Model) -> None:
    request = answer_of(tiny_model, "a")
    whole = len(request.sequences[0].around(replace(request, target=torch.zeros(24, dtype=torch.int64)).target))

    def full_steps(cache: TextCacheConfig) -> list[int]:
        lengths = computed_lengths(tiny_model, answer_of(tiny_model, "a", settings=replace(TEXT, cache=cache)))
        return [step for step, (length,) in enumerate(lengths) if length == whole]

    assert full_steps(TextCacheConfig(prompt_interval=1)) == [0, 3, 6, 9]
    assert full_steps(TextCacheConfig(prompt_interval=2)) == [0, 6]
    assert full_steps(TextCacheConfig(refresh_interval=2)) == [0, 2, 5, 8, 11]


@pytest.mark.parametrize("uncond_interval", [1, 3])
def test_an_image_cache_that_is_never_warm_changes_nothing(tiny_model: Model, uncond_interval: int) -> None:
    cold = replace(IMAGE, step_cache=TargetCacheConfig(warmup_ratio=1.0), uncond_interval=uncond_interval)
    for build in (edit_of, lambda model, name, settings: image_of(model, name, settings=settings)):
        assert ids_alone(tiny_model, build(tiny_model, "a", cold)) == ids_alone(
            tiny_model, build(tiny_model, "a", IMAGE)
        )


def passes_of(config: TargetCacheConfig | None, decided: Sequence[int]) -> list[tuple[str, int]]:
    """The pass of each step that decides so many positions of 48, and how long ago the last refresh was."""
    plan, passes = PassPlan(len(decided), 48, config), []
    for step, count in enumerate(decided):
        passes.append((plan.kind, plan.since_refresh))
        plan.advance(step + 1, count)
    return passes


def test_a_step_refreshes_when_a_share_was_decided_and_the_prompt_with_it_when_another_was() -> None:
    config = TargetCacheConfig(refresh_share=1 / 6, prompt_share=1 / 3)
    assert passes_of(config, [1, 2, 4, 1, 8, 7, 2, 16, 6, 1]) == [
        *(("all", 0), ("some", 1), ("some", 2), ("some", 3)),
        *(("target", 0), ("all", 0), ("some", 1), ("target", 0), ("all", 0), ("some", 1)),
    ]
    never_the_prompt = replace(config, prompt_share=1.0)
    assert [kind for kind, _ in passes_of(never_the_prompt, [8] * 6)] == ["all", *("target",) * 5]


def test_a_step_of_the_warm_up_and_every_one_without_a_cache_computes_all() -> None:
    warm = TargetCacheConfig(warmup_ratio=0.3, refresh_share=1.0)
    assert passes_of(warm, [1] * 10) == [("all", 0)] * 4 + [("some", since) for since in range(1, 7)]
    assert passes_of(None, [8] * 3) == [("all", 0)] * 3


def test_nothing_is_kept_for_later_where_each_step_computes_all() -> None:
    tiny = TargetCacheConfig(refresh_share=1 / 48, prompt_share=1 / 48)
    for config, is_reused in ((None, False), (tiny, False), (TargetCacheConfig(), True)):
        assert PassPlan(12, 48, config).is_reused_after(0) == is_reused
    assert not PassPlan(12, 48, TargetCacheConfig(warmup_ratio=1.0)).is_reused_after(0)
    assert not PassPlan(12, 48, TargetCacheConfig()).is_reused_after(11)


def test_a_step_looks_at_enough_positions_and_never_at_more_than_are_masked() -> None:
    config = TargetCacheConfig(lookahead=2.5, compute_ratio=0.1)
    assert num_looked_at(100, 8, config) == 20
    assert num_looked_at(100, 1, config) == 10
    assert num_looked_at(5, 4, config) == 5


@pytest.mark.parametrize("uncond_interval", [1, 2])
@pytest.mark.parametrize("kind", ["image", "edit", "inpainting"])
def test_what_a_step_decides_is_computed_by_the_next_and_is_no_more_than_was_looked_at(
    tiny_model: Model, kind: str, uncond_interval: int
) -> None:
    cache = TargetCacheConfig(refresh_share=0.25, prompt_share=0.6, lookahead=2.0, compute_ratio=0.0)
    settings = replace(IMAGE, step_cache=cache, uncond_interval=uncond_interval, cfg_image_scale=1.5)
    request = edit_of(tiny_model, "a", settings) if kind == "edit" else image_of(tiny_model, "a", settings=settings)
    if kind == "inpainting":
        given = torch.arange(len(request.target)) % 7 < 2
        is_code = request.target == tiny_model.tokens.mask
        known = torch.where(given & is_code, tiny_model.tokens.image_offset + 9, request.target)
        request = replace(request, target=known)
    traces, lengths = traces_of(tiny_model, request), computed_lengths(tiny_model, request)
    num_masked = int((request.target == tiny_model.tokens.mask).sum())
    plan, suffix, kinds = PassPlan(settings.num_steps, num_masked, cache), len(request.sequences[0].suffix), set()
    for step, (trace, computed) in enumerate(zip(traces, lengths, strict=True)):
        num_sequences = len(request.sequences) if plan.since_refresh % uncond_interval == 0 else 1
        assert len(computed) == num_sequences
        if plan.kind == "target":
            assert computed == [len(request.target) + suffix] * num_sequences
        if plan.kind == "some":
            assert computed[0] == len(traces[step - 1].committed) + len(trace.read)
            assert set(trace.committed.tolist()) <= set(trace.read.tolist())
            skipped = 0 if uncond_interval == 1 else len(traces[step - 2].committed)
            assert computed[1:] == [computed[0] + skipped] * (num_sequences - 1)
        kinds.add(plan.kind)
        plan.advance(step + 1, len(trace.committed))
    assert kinds == {"all", "target", "some"}
    assert sum(len(trace.committed) for trace in traces) == num_masked


def test_every_masked_position_is_decided_once_whatever_is_looked_at(tiny_model: Model) -> None:
    settings = replace(IMAGE, step_cache=TargetCacheConfig(lookahead=1.0, compute_ratio=0.0, refresh_share=1.0))
    traces = traces_of(tiny_model, image_of(tiny_model, "a", settings=settings))
    decided = torch.cat([trace.committed for trace in traces])
    assert len(decided) == len(decided.unique()) == 24


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_looking_at_every_masked_position_decides_as_many_as_without_a_cache(
    tiny_model: Model, temperature: float
) -> None:
    plain = replace(IMAGE, temperature=temperature)
    cached = replace(plain, step_cache=TargetCacheConfig(compute_ratio=1.0))
    counts = [
        [len(trace.committed) for trace in traces_of(tiny_model, image_of(tiny_model, "a", settings=settings))]
        for settings in (plain, cached)
    ]
    assert counts[0] == counts[1]


def cached_requests(model: Model) -> list[Request]:
    dual, prefix = TextCacheConfig(), TextCacheConfig(mode="prefix", prompt_interval=2)
    target = replace(IMAGE, step_cache=TargetCacheConfig(refresh_share=0.25))
    return [
        answer_of(model, "dual", settings=replace(TEXT, cache=dual)),
        answer_of(model, "prefix", settings=replace(TEXT, cache=prefix, cfg_scale=1.0, temperature=0.5)),
        answer_of(model, "entropy", settings=replace(TEXT, commit=ParallelCommit(rule="entropy", bound=2.0))),
        image_of(model, "target", settings=target),
        image_of(model, "sure", settings=replace(target, commit=ParallelCommit(bound=0.01))),
        image_of(model, "residual", settings=replace(IMAGE, uncond_interval=3)),
        image_of(model, "reference", settings=replace(IMAGE, step_cache=StepCacheConfig())),
        edit_of(model, "edit", replace(target, uncond_interval=2, cfg_image_scale=1.5)),
        image_of(model, "plain", settings=IMAGE),
    ]


def test_cached_requests_do_not_depend_on_their_batch_mates(tiny_model: Model) -> None:
    requests = cached_requests(tiny_model)
    alone = {request.request_id: ids_alone(tiny_model, request) for request in requests}
    for batch in (requests, requests[::-1], requests[::2]):
        together = run_all(engine_of(tiny_model), batch)
        assert {name: ids_of(result) for name, result in together.items()} == {name: alone[name] for name in together}


@pytest.mark.parametrize("max_cache_bytes", [0, 150_000, None])
def test_cached_requests_do_not_depend_on_which_of_them_step_together(
    tiny_model: Model, max_cache_bytes: int | None
) -> None:
    """Hardly two fit into a step: requests are left out of steps, and wait for each other's caches."""
    requests = cached_requests(tiny_model)
    alone = {request.request_id: ids_alone(tiny_model, request) for request in requests}
    max_step_tokens = max(request.num_tokens for request in requests) * 3 // 2
    config = EngineConfig(max_step_tokens=max_step_tokens, max_cache_bytes=max_cache_bytes, max_step_interval=8)
    together = run_all(Engine(tiny_model.transformer, tiny_model.tokens, config), requests)
    assert {name: ids_of(result) for name, result in together.items()} == alone


def test_the_engine_knows_before_each_step_how_many_tokens_it_will_compute(tiny_model: Model) -> None:
    for request in cached_requests(tiny_model):
        engine = engine_of(tiny_model)
        engine.submit(request)
        state, expected, before = engine._scheduler.waiting[0], [], 0
        while engine.num_unfinished:
            expected.append(state.num_tokens)
            engine.step()
            assert engine.stats.num_tokens - before == expected[-1], request.request_id
            before = engine.stats.num_tokens
        num_reused = engine.stats.num_steps * request.num_tokens - engine.stats.num_tokens
        assert engine.stats.num_tokens_reused == num_reused
        assert (num_reused > 0) == (request.request_id not in ("plain", "entropy"))


def test_the_memory_of_a_request_is_known_before_its_first_step(tiny_model: Model) -> None:
    config = tiny_model.config
    for request in cached_requests(tiny_model):
        engine = engine_of(tiny_model)
        engine.submit(request)
        block = 2 * config.num_layers * request.num_tokens * config.kv_size * 4
        num_target, settings = len(request.target), request.settings
        expected = {
            "entropy": 0,
            "plain": 0,
            "residual": num_target * 8192 * 2,
            "edit": block + 2 * num_target * 8192 * 2,
            "reference": block + 4 * (request.num_tokens + 2 * num_target * 8192),
        }.get(request.request_id, block)
        assert engine._scheduler.waiting[0].num_bytes == expected, (request.request_id, settings)


def test_an_image_with_a_cache_is_whole(tiny_model: Model) -> None:
    request = image_of(tiny_model, "a", settings=replace(IMAGE, step_cache=TargetCacheConfig(), uncond_interval=2))
    codes = image_codes(run_all(engine_of(tiny_model), [request])["a"])
    assert codes.shape == (4, 6)
    assert 0 <= int(codes.min()) <= int(codes.max()) < 8192
