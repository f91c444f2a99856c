"""Ways of making images and texts cheaper that are set against each other: fewer steps, presets, single settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dimoo_core.presets import DEFAULT_PRESET, PRESETS
from dimoo_core.settings import ImageSettings, ParallelCommit, TargetCacheConfig, TextCacheConfig, TextSettings

Kind = Literal["steps", "preset", "setting"]
Unit = Literal["image", "text"]

_IMAGE_STEP_RATIOS = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)
_TEXT_STEP_RATIOS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way: ``steps`` is the exact computation in so many steps, the curve that the others have to beat."""

    unit: Unit
    kind: Kind
    name: str
    settings: ImageSettings | TextSettings


def title_of(contender: Contender) -> str:
    """What is made: contenders with one title are set against each other."""
    if isinstance(contender.settings, ImageSettings):
        return f"images at a temperature of {contender.settings.temperature:g}"
    return "texts"


def steps_name(num_steps: int) -> str:
    """What the exact computation in so many steps is called."""
    return "1 step" if num_steps == 1 else f"{num_steps} steps"


def image_contenders(base: ImageSettings) -> list[Contender]:
    """Of images whose usual settings are ``base``, without approximations."""
    contenders = [
        Contender(unit="image", kind="steps", name=steps_name(steps), settings=replace(base, num_steps=steps))
        for steps in _steps(base.num_steps, _IMAGE_STEP_RATIOS)
    ]
    contenders += [
        Contender(unit="image", kind="preset", name=name, settings=preset.image(base))
        for name, preset in PRESETS.items()
        if name != DEFAULT_PRESET
    ]
    settings = {
        "target cache": replace(base, step_cache=TargetCacheConfig()),
        "refresh each 1/8": replace(base, step_cache=TargetCacheConfig(refresh_share=1 / 8)),
        "refresh each 1/4": replace(base, step_cache=TargetCacheConfig(refresh_share=1 / 4)),
        "prompt once": replace(base, step_cache=TargetCacheConfig(prompt_share=1.0)),
        "sure at 0.9": replace(base, commit=ParallelCommit(bound=0.9)),
        "entropy 0.1": replace(base, commit=ParallelCommit(rule="entropy", bound=0.1)),
    }
    if base.cfg_scale:
        settings["guidance each 2nd"] = replace(base, uncond_interval=2)
    return contenders + [
        Contender(unit="image", kind="setting", name=name, settings=each) for name, each in settings.items()
    ]


def text_contenders(base: TextSettings) -> list[Contender]:
    """Of answers whose usual settings are ``base``, without approximations."""
    usual = base.steps_per_block
    contenders = [
        Contender(
            unit="text",
            kind="steps",
            name=steps_name(steps * base.num_blocks),
            settings=replace(base, num_steps=steps * base.num_blocks),
        )
        for steps in _steps(usual, _TEXT_STEP_RATIOS)
    ]
    contenders += [
        Contender(unit="text", kind="preset", name=name, settings=preset.text(base))
        for name, preset in PRESETS.items()
        if preset.cache is not None or preset.commit is not None
    ]
    settings = {
        "prefix cache": replace(base, cache=TextCacheConfig(mode="prefix")),
        "refresh each 4th": replace(base, cache=TextCacheConfig(refresh_interval=4)),
        "sure at 0.9": replace(base, commit=ParallelCommit(bound=0.9)),
        "entropy 0.1": replace(base, commit=ParallelCommit(rule="entropy", bound=0.1)),
    }
    return contenders + [
        Contender(unit="text", kind="setting", name=name, settings=each) for name, each in settings.items()
    ]


def _steps(usual: int, ratios: Sequence[float]) -> list[int]:
    return sorted({max(1, round(usual * ratio)) for ratio in ratios})
