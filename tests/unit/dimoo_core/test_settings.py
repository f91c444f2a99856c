"""Settings refuse nonsense with the name, what is allowed, and the value."""

from collections.abc import Callable
from typing import Any

import pytest

from dimoo_core.errors import ConfigError
from dimoo_core.settings import (
    ChoiceSettings,
    EngineConfig,
    ImageSettings,
    ParallelCommit,
    StepCacheConfig,
    TargetCacheConfig,
    TextCacheConfig,
    TextSettings,
)

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width_px": 100}, "width must be a multiple of 16 from 16 to 2048, got 100"),
        ({"height_px": 0}, "height must be a multiple of 16 from 16 to 2048, got 0"),
        ({"height_px": 2064}, "height must be a multiple of 16 from 16 to 2048, got 2064"),
        ({"num_steps": 0}, "steps must be at least 1, got 0"),
        ({"cfg_scale": -0.5}, "cfg_scale must be 0 or more, got -0.5"),
        ({"cfg_scale": NAN}, "cfg_scale must be 0 or more, got nan"),
        ({"cfg_image_scale": INFINITY}, "cfg_image_scale must be 0 or more, got inf"),
        ({"temperature": -1.0}, "temperature must be 0 or more, got -1.0"),
        ({"uncond_interval": 0}, "uncond_interval must be at least 1, got 0"),
        (
            {"uncond_interval": 2, "step_cache": StepCacheConfig()},
            "uncond_interval must be 1 with the reference's cache, got 2",
        ),
    ],
)
def test_wrong_image_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageSettings(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"max_tokens": 10, "block_length": 3}, r"block_length must be a divisor of max_tokens \(10\), got 3"),
        ({"max_tokens": 8, "block_length": 16}, r"block_length must be a divisor of max_tokens \(8\), got 16"),
        ({"max_tokens": 8, "block_length": 0}, r"block_length must be a divisor of max_tokens \(8\), got 0"),
        (
            {"max_tokens": 12, "block_length": 4, "num_steps": 4},
            r"steps must be a multiple of the number of blocks \(3\), got 4",
        ),
        ({"num_steps": 0}, r"steps must be a multiple of the number of blocks \(4\), got 0"),
        ({"cfg_scale": -1.0}, "cfg_scale must be 0 or more, got -1.0"),
        ({"temperature": INFINITY}, "temperature must be 0 or more, got inf"),
        (
            {"remasking": "random", "commit": ParallelCommit(bound=0.9)},
            "remasking must be 'low_confidence' where commit is given, got 'random'",
        ),
        ({"remasking": "lucky"}, "remasking must be 'low_confidence' or 'random', got 'lucky'"),
    ],
)
def test_wrong_text_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextSettings(**options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (TargetCacheConfig, {"warmup_ratio": 1.1}, r"warmup_ratio must be from 0 to 1, got 1.1"),
        (
            TargetCacheConfig,
            {"refresh_share": 0.0},
            r"refresh_share must be above 0 and at most 1, got 0.0",
        ),
        (
            TargetCacheConfig,
            {"refresh_share": NAN},
            r"refresh_share must be above 0 and at most 1, got nan",
        ),
        (TargetCacheConfig, {"prompt_share": 1.5}, r"prompt_share must be above 0 and at most 1, got 1.5"),
        (TargetCacheConfig, {"lookahead": 0.5}, r"lookahead must be at least 1, got 0.5"),
        (TargetCacheConfig, {"lookahead": INFINITY}, r"lookahead must be at least 1, got inf"),
        (TargetCacheConfig, {"lookahead": 1e308}, r"lookahead must be at most 1e\+15, got 1e\+308"),
        (TargetCacheConfig, {"compute_ratio": NAN}, r"compute_ratio must be from 0 to 1, got nan"),
        (TextCacheConfig, {"mode": "both"}, r"mode must be 'prefix' or 'dual', got 'both'"),
        (TextCacheConfig, {"prompt_interval": -1}, r"prompt_interval must be 0 or more, got -1"),
        (TextCacheConfig, {"refresh_interval": -1}, r"refresh_interval must be 0 or more, got -1"),
        (ParallelCommit, {"rule": "luck", "bound": 1.0}, r"rule must be 'confidence' or 'entropy', got 'luck'"),
        (ParallelCommit, {"bound": 0.0}, r"bound must be above 0 and at most 1 for rule 'confidence', got 0.0"),
        (ParallelCommit, {"rule": "entropy", "bound": -1.0}, r"bound must be 0 or more for rule 'entropy'"),
    ],
)
def test_wrong_cache_settings_are_refused(kind: Callable[..., object], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**options)


def test_the_defaults_of_images_are_the_reference_scripts() -> None:
    settings = ImageSettings()
    assert (settings.width_px, settings.height_px, settings.num_steps) == (1024, 1024, 64)
    assert (settings.cfg_scale, settings.temperature) == (4.0, 1.0)


@pytest.mark.parametrize(
    ("options", "num_blocks", "steps_per_block"),
    [
        ({}, 4, 32),
        ({"max_tokens": 20, "block_length": 10}, 2, 2),
        ({"max_tokens": 24, "block_length": 6, "num_steps": 16}, 4, 4),
    ],
)
def test_steps_are_spread_over_blocks(options: dict[str, Any], num_blocks: int, steps_per_block: int) -> None:
    settings = TextSettings(**options)
    assert (settings.num_blocks, settings.steps_per_block) == (num_blocks, steps_per_block)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_step_tokens": 0}, r"engine\.max_step_tokens must be at least 1, got 0"),
        ({"batch_invariance": "maybe"}, r"engine\.batch_invariance must be auto, on or off, got 'maybe'"),
    ],
)
def test_wrong_engine_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineConfig(**options)


@pytest.mark.parametrize("scale", [1.1e15, 1e38, 3.5e38, 1e300])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ImageSettings, "cfg_scale"),
        (ImageSettings, "cfg_image_scale"),
        (TextSettings, "cfg_scale"),
        (ChoiceSettings, "cfg_scale"),
    ],
)
def test_guidance_beyond_what_float32_carries_is_refused(kind: Callable[..., object], name: str, scale: float) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} must be at most 1e\+15, got "):
        kind(**{name: scale})


@pytest.mark.parametrize("temperature", [9e-16, 1e-38, 1e-40, 5e-324, 1.1e15, 3e38, 1e308])
@pytest.mark.parametrize(("kind", "largest"), [(ImageSettings, r"1e\+15"), (TextSettings, "16")])
def test_temperatures_beyond_what_sampling_carries_are_refused(
    kind: Callable[..., object], largest: str, temperature: float
) -> None:
    with pytest.raises(ConfigError, match=rf"^temperature must be 0 or from 1e-15 to {largest}, got "):
        kind(temperature=temperature)


def test_the_bounds_themselves_are_allowed() -> None:
    for temperature in (0.0, 1e-15, 1e15):
        ImageSettings(cfg_scale=1e15, cfg_image_scale=1e15, temperature=temperature)
    for temperature in (0.0, 1e-15, 16.0):
        TextSettings(cfg_scale=1e15, temperature=temperature)
    with pytest.raises(ConfigError, match=r"temperature must be 0 or from 1e-15 to 16, got 16\.01"):
        TextSettings(temperature=16.01)
