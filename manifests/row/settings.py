"""The settings of one row: the job's defaults, overridden by what the row itself gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dimoo_core.errors import ConfigError
from dimoo_core.presets import DEFAULT_PRESET, Preset, find_preset
from dimoo_core.settings import ChoiceSettings, ImageSettings, TextSettings
from manifests.cells import number_cell, whole_cell
from manifests.row.captions import Captions
from manifests.row.task_name import find_task, unknown_task
from manifests.tasks import Task


def image_settings(record: Mapping[str, Any], default: ImageSettings) -> ImageSettings:
    """The settings of a row that makes an image.

    Raises:
        ManifestRowError: A cell is not the number it should be.
        ConfigError: A number is out of range; the message begins with the column.
    """
    changes = {
        "width_px": whole_cell("width", record.get("width")),
        "height_px": whole_cell("height", record.get("height")),
        "cfg_image_scale": number_cell("cfg_image_scale", record.get("cfg_image_scale")),
        **_shared_changes(record),
    }
    return replace(default, **_given(changes))


def choice_settings(record: Mapping[str, Any], default: TextSettings) -> ChoiceSettings:
    """The settings of a row that weighs given answers: as long a place for them as an answer has by default."""
    max_tokens = whole_cell("max_tokens", record.get("max_tokens"))
    cfg_scale = number_cell("cfg_scale", record.get("cfg_scale"))
    return ChoiceSettings(
        max_tokens=default.max_tokens if max_tokens is None else max_tokens,
        cfg_scale=default.cfg_scale if cfg_scale is None else cfg_scale,
    )


def text_settings(record: Mapping[str, Any], default: TextSettings) -> TextSettings:
    """The settings of a row that makes text.

    A row that gives ``max_tokens`` alone gets the longest block that divides it and is no longer than the
    default block. A row that changes either without ``steps`` keeps the job's ``num_steps`` only where it still
    fits: a whole number of steps a block, no more steps than tokens.

    Raises:
        ManifestRowError: A cell is not the number it should be.
        ConfigError: A number is out of range; the message begins with the column.
    """
    max_tokens = whole_cell("max_tokens", record.get("max_tokens"))
    block_length = whole_cell("block_length", record.get("block_length"))
    changes = _given(_shared_changes(record))
    if max_tokens is None and block_length is None:
        return replace(default, **changes) if changes else default
    if block_length is None and max_tokens is not None and max_tokens >= 1:
        block_length = _largest_divisor(max_tokens, default.block_length)
    lengths = _given({"max_tokens": max_tokens, "block_length": block_length})
    settings = replace(default, **{"num_steps": None, **lengths, **changes})
    inherited = default.num_steps
    if "num_steps" in changes or inherited is None or inherited > settings.max_tokens:
        return settings
    return replace(settings, num_steps=inherited) if inherited % settings.num_blocks == 0 else settings


def _shared_changes(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_steps": whole_cell("steps", record.get("steps")),
        "cfg_scale": number_cell("cfg_scale", record.get("cfg_scale")),
        "temperature": number_cell("temperature", record.get("temperature")),
    }


def _given(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}


def _largest_divisor(number: int, limit: int) -> int:
    return next(divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0)


IMAGE_TO_IMAGE = ImageSettings(cfg_scale=2.5, cfg_image_scale=4.0)
"""Settings of an image from an image, as the reference's script has them; its size is that of the input image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDefaults:
    """The job's defaults for rows without their own values.

    The preset, the row's or this one, is put over the settings, except over the fields that the job sets itself: for
    each kind of settings they are named in ``explicit_…``.
    """

    task: str | None = None
    prompt: str | None = None
    preset: str = DEFAULT_PRESET
    explicit_text_to_image: tuple[str, ...] = ()
    explicit_image_to_image: tuple[str, ...] = ()
    explicit_understanding: tuple[str, ...] = ()
    text_to_image: ImageSettings = field(default_factory=ImageSettings)
    image_to_image: ImageSettings = field(default_factory=lambda: IMAGE_TO_IMAGE)
    understanding: TextSettings = field(default_factory=TextSettings)
    captions: Captions = field(default_factory=Captions)

    def __post_init__(self) -> None:
        if self.task is not None and find_task(self.task) is None:
            raise ConfigError(unknown_task(self.task))
        if self.prompt is not None and not self.prompt.strip():
            raise ConfigError(f"prompt must not be empty, got {self.prompt!r}: leave the default prompt out")
        preset = find_preset(self.preset)
        preset.image(self.text_to_image, self.explicit_text_to_image)
        preset.image(self.image_to_image, self.explicit_image_to_image)
        preset.text(self.understanding, self.explicit_understanding)

    def image_settings(self, task: Task, preset: Preset) -> ImageSettings:
        """Those of a row of a task that makes images, with a preset's approximations."""
        if task.kind in ("image", "painting"):
            return preset.image(self.text_to_image, self.explicit_text_to_image)
        return preset.image(self.image_to_image, self.explicit_image_to_image)
