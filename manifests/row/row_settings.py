"""The settings of one row: the job's, with what the row itself gives put over them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dimoo_core.settings import ChoiceSettings, ImageSettings, TextSettings
from manifests.cells import number_cell, whole_cell


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
    """The settings of a row that weighs given answers: as long a place for them as an answer has by default.

    Raises:
        ManifestRowError, ConfigError: As ``text_settings``.
    """
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
