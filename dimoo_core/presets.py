"""Named trade-offs between cost and similarity to the reference. Importable without torch.

A preset sets which approximations are made, never the request: size, steps, guidance and temperature are those
of the row or the job. What each one costs: docs/presets.md.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from dimoo_core.errors import ConfigError
from dimoo_core.settings import (
    ImageSettings,
    ParallelCommit,
    StepCacheConfig,
    TargetCacheConfig,
    TextCacheConfig,
    TextSettings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Approximations that go together; fields are named as in ``ImageSettings`` and ``TextSettings``."""

    name: str
    meaning: str
    step_cache: StepCacheConfig | TargetCacheConfig | None = None
    uncond_interval: int = 1
    cache: TextCacheConfig | None = None
    commit: ParallelCommit | None = None

    def image(self, settings: ImageSettings, explicit: Collection[str] = ()) -> ImageSettings:
        """The settings with this preset's approximations, except fields named in ``explicit``, which stay.

        Approximations that do not go with what stays are left out.

        Raises:
            ConfigError: If what stays does not go with the rest.
        """
        return _changed_image(self, settings, tuple(explicit))

    def text(self, settings: TextSettings, explicit: Collection[str] = ()) -> TextSettings:
        """As ``image``."""
        return _changed_text(self, settings, tuple(explicit))


@lru_cache  # the rows of a job have few settings, which need not be checked again for each of them
def _changed_image(preset: Preset, settings: ImageSettings, explicit: tuple[str, ...]) -> ImageSettings:
    changes = _changes(preset, ("step_cache", "uncond_interval", "commit"), explicit)
    if isinstance(changes.get("step_cache", settings.step_cache), StepCacheConfig):  # goes with nothing else
        changes |= {name: value for name, value in (("uncond_interval", 1), ("commit", None)) if name in changes}
    return replace(settings, **changes)


@lru_cache
def _changed_text(preset: Preset, settings: TextSettings, explicit: tuple[str, ...]) -> TextSettings:
    changes = _changes(preset, ("cache", "commit"), explicit)
    if settings.remasking == "random" and "commit" in changes:  # no confidence to be sure by
        changes["commit"] = None
    return replace(settings, **changes)


def _changes(preset: Preset, names: tuple[str, ...], explicit: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(preset, name) for name in names if name not in explicit}


DEFAULT_PRESET = "exact"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset(name=DEFAULT_PRESET, meaning="what the reference computes, token for token"),
            Preset(
                name="reference-cache",
                meaning="images with the reference's own step cache (ML-Cache) at its default settings",
                step_cache=StepCacheConfig(),
            ),
            Preset(
                name="balanced",
                meaning="recomputes positions about to be committed and just committed; commits confident tokens early",
                step_cache=TargetCacheConfig(),
                cache=TextCacheConfig(),
                commit=ParallelCommit(bound=0.99),
            ),
            Preset(
                name="fast",
                meaning="as balanced, with fewer refreshes, guidance every other step, and a lower confidence bound",
                step_cache=TargetCacheConfig(refresh_share=1 / 8, lookahead=2.0),
                uncond_interval=2,
                cache=TextCacheConfig(),
                commit=ParallelCommit(bound=0.9),
            ),
        )
    }
)
"""Every preset by name, the most faithful first."""


_CAPTION_DETAILS = ("short", "detailed", "dense")


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        ConfigError: Names the presets there are and, if one is near, the one that is likely meant.
    """
    if name in PRESETS:
        return PRESETS[name]
    folded = name.strip().lower().replace("_", "-").replace(" ", "-")
    near = difflib.get_close_matches(folded, PRESETS, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    if folded in _CAPTION_DETAILS:
        hint = f" (the detail of captions is captions.detail={folded}, or the column caption_detail)"
    shown = repr(name) if len(name) <= 60 else f"{name[:60]!r}..."
    raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {shown}{hint}")
