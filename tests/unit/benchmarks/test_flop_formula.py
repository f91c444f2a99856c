"""The closed formula of a plan against the engine's own steps, counted operation by operation."""

from dataclasses import replace

import pytest

from benchmarks.case_report import generation_of
from benchmarks.flop_comparison import Counting
from benchmarks.shape import PROPORTIONAL, SMALL, Shape
from benchmarks.workload import caption_requests, image_requests, mixed_requests
from dimoo_core.engine.flops import image_cost, text_cost
from dimoo_core.request.request import Request
from dimoo_core.settings import (
    ImageSettings,
    StepCacheConfig,
    TargetCacheConfig,
    TextCacheConfig,
    TextSettings,
)

pytestmark = pytest.mark.soak

IMAGE = ImageSettings(width_px=128, height_px=96, num_steps=8, cfg_scale=4.0)
TEXT = TextSettings(max_tokens=48, block_length=16, num_steps=6)


def check(shape: Shape, request: Request, share: float) -> None:
    counted = Counting(shape).count([request])
    generation = generation_of(shape, request)
    settings = request.settings
    if isinstance(settings, ImageSettings):
        cost = image_cost(shape.config, generation, settings)
    else:
        assert isinstance(settings, TextSettings)
        cost = text_cost(shape.config, generation, settings)
    assert cost.num_steps == counted.num_steps
    assert abs(cost.flops - counted.flops.total) <= share * counted.flops.total
    assert abs(cost.num_tokens - counted.num_tokens) <= share * counted.num_tokens


@pytest.mark.parametrize("cfg_scale", [0.0, 4.0])
@pytest.mark.parametrize("shape", [SMALL, PROPORTIONAL], ids=lambda shape: shape.name)
def test_an_image_costs_what_the_engine_counts(shape: Shape, cfg_scale: float) -> None:
    (request,) = image_requests(shape, replace(IMAGE, cfg_scale=cfg_scale), 1)
    check(shape, request, 0.005)


@pytest.mark.parametrize(
    ("cache", "uncond_interval"),
    [
        (None, 3),
        (TargetCacheConfig(), 1),
        (TargetCacheConfig(refresh_share=0.5, prompt_share=1.0, lookahead=2.0), 2),
        (TargetCacheConfig(prompt_share=0.1, warmup_ratio=0.3), 1),
        (StepCacheConfig(), 1),
    ],
)
def test_a_cached_image_costs_what_the_engine_counts(
    cache: StepCacheConfig | TargetCacheConfig | None, uncond_interval: int
) -> None:
    settings = replace(IMAGE, step_cache=cache, uncond_interval=uncond_interval)
    (request,) = image_requests(PROPORTIONAL, settings, 1)
    check(PROPORTIONAL, request, 0.02)


def test_an_edit_costs_what_the_engine_counts() -> None:
    edit = next(request for request in mixed_requests(PROPORTIONAL, num_steps=4) if len(request.sequences) == 3)
    check(PROPORTIONAL, edit, 0.005)


@pytest.mark.parametrize(
    ("cache", "cfg_scale"),
    [
        (None, 1.5),
        (TextCacheConfig(), 0.0),
        (TextCacheConfig(mode="prefix"), 0.0),
        (TextCacheConfig(prompt_interval=1, refresh_interval=2), 0.0),
    ],
)
def test_an_answer_costs_what_the_engine_counts(cache: TextCacheConfig | None, cfg_scale: float) -> None:
    settings = replace(TEXT, cache=cache, cfg_scale=cfg_scale)
    (request,) = caption_requests(PROPORTIONAL, settings, 1, image_px=64)
    check(PROPORTIONAL, request, 0.02)
