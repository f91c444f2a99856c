"""Presets: names, what they change, and what they leave alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from dimoo_core.errors import ConfigError
from dimoo_core.preset import DEFAULT_PRESET, PRESETS, find_preset
from dimoo_core.settings import ImageSettings, StepCacheConfig

PAGE = (Path(__file__).parents[3] / "docs" / "presets.md").read_text()


def test_the_default_preset_changes_nothing() -> None:
    assert find_preset(DEFAULT_PRESET).image(ImageSettings()) == ImageSettings()


def test_the_reference_cache_is_the_reference_cache_at_its_default_settings() -> None:
    settings = find_preset("reference-cache").image(ImageSettings(num_steps=9))
    assert settings == ImageSettings(num_steps=9, step_cache=StepCacheConfig())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_put_over_another_and_leaves_no_trace_of_it(name: str) -> None:
    settings = ImageSettings(width_px=512, cfg_scale=2.0, num_steps=7)
    for other in PRESETS.values():
        assert PRESETS[name].image(other.image(settings)) == PRESETS[name].image(settings)


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_set_explicitly_stays(name: str) -> None:
    settings = replace(ImageSettings(), step_cache=StepCacheConfig(refresh_interval=2))
    assert PRESETS[name].image(settings, explicit=("step_cache",)).step_cache == settings.step_cache


@pytest.mark.parametrize(
    ("name", "end"),
    [
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
    rows = [line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert rows == list(PRESETS)
