"""Presets: names, what they change, and what they leave alone."""

import pytest

from dimoo_core.errors import ConfigError
from dimoo_core.presets import DEFAULT_PRESET, PRESETS, find_preset
from dimoo_core.settings import (
    ImageSettings,
    ParallelCommit,
    StepCacheConfig,
    TargetCacheConfig,
    TextCacheConfig,
    TextSettings,
)
from tests.support.command import REPOSITORY

PAGE = (REPOSITORY / "docs" / "presets.md").read_text()


def test_the_default_preset_changes_nothing() -> None:
    assert find_preset(DEFAULT_PRESET).image(ImageSettings()) == ImageSettings()
    assert find_preset(DEFAULT_PRESET).text(TextSettings()) == TextSettings()


def test_the_reference_cache_is_the_reference_cache_at_its_default_settings() -> None:
    settings = find_preset("reference-cache").image(ImageSettings(num_steps=9))
    assert settings == ImageSettings(num_steps=9, step_cache=StepCacheConfig())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_put_over_another_and_leaves_no_trace_of_it(name: str) -> None:
    image = ImageSettings(width_px=512, cfg_scale=2.0, num_steps=7)
    text = TextSettings(max_tokens=64, block_length=32)
    for other in PRESETS.values():
        assert PRESETS[name].image(other.image(image)) == PRESETS[name].image(image)
        assert PRESETS[name].text(other.text(text)) == PRESETS[name].text(text)


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_set_explicitly_stays(name: str) -> None:
    image = ImageSettings(
        step_cache=TargetCacheConfig(refresh_share=0.3), uncond_interval=3, commit=ParallelCommit(bound=0.7)
    )
    text = TextSettings(cache=TextCacheConfig(mode="prefix"), commit=ParallelCommit(bound=0.7))
    assert PRESETS[name].image(image, explicit=("step_cache", "uncond_interval", "commit")) == image
    assert PRESETS[name].text(text, explicit=("cache", "commit")) == text


@pytest.mark.parametrize("name", PRESETS)
def test_what_does_not_go_with_what_is_set_explicitly_is_left_out(name: str) -> None:
    image = ImageSettings(step_cache=StepCacheConfig(reuse_ratio=0.8))
    assert PRESETS[name].image(image, explicit=("step_cache",)) == image
    text = PRESETS[name].text(TextSettings(remasking="random"))
    assert text == TextSettings(remasking="random", cache=PRESETS[name].cache)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("Short", "got 'Short' (the detail of captions is captions.detail=short, or the column caption_detail)"),
        ("exactly", "got 'exactly' (did you mean 'exact'?)"),
        ("Reference_Cache", "got 'Reference_Cache' (did you mean 'reference-cache'?)"),
        ("zzz", "got 'zzz'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_list_and_the_nearest(name: str, end: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_preset(name)
    assert str(caught.value) == f"preset must be one of {', '.join(PRESETS)}, {end}"


def test_the_page_lists_the_presets_in_order() -> None:
    rows = [line.split("`")[1] for line in PAGE.split("Share of")[0].splitlines() if line.startswith("| `")]
    assert rows == list(PRESETS)
