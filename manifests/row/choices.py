"""The answers that a row lets the model choose from."""

from collections.abc import Mapping
from typing import Any

from manifests.cells import shown, texts_cell
from manifests.errors import ManifestRowError
from manifests.task import Task

MAX_CHOICES = 64
_UNUSED = ("block_length", "steps", "temperature")


def choices_cell(record: Mapping[str, Any], task: Task) -> tuple[str, ...]:
    """The choices of a row; empty where it gives none.

    Raises:
        ManifestRowError: They are no list of 2 to 64 different texts, or stand beside a setting that they leave no use.
    """
    choices = texts_cell("choices", record.get("choices")) if task.kind == "text" else None
    if choices is None:
        return ()
    if not 2 <= len(choices) <= MAX_CHOICES:
        raise ManifestRowError(f"choices must be 2 to {MAX_CHOICES} texts, got {len(choices)}")
    for index, choice in enumerate(choices):
        if choice in choices[:index]:
            raise ManifestRowError(f"choices must differ, got {shown(choice)} twice: leave one out")
    for name in _UNUSED:
        if record.get(name) is not None:
            raise ManifestRowError(f"{name} is not used with choices, got {shown(record[name])}: leave it null")
    return choices
