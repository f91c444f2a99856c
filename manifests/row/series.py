"""Rows with several results: samples, views side by side, successive turns; and the answers to choose from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dimoo_core.request.templates import multi_view
from manifests.cells import has_control_characters, short_repr, text_cell, texts_cell, whole_cell
from manifests.errors import ManifestRowError
from manifests.tasks import Task

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
            raise ManifestRowError(f"choices must differ, got {short_repr(choice)} twice: leave one out")
    for name in _UNUSED:
        if record.get(name) is not None:
            raise ManifestRowError(f"{name} is not used with choices, got {short_repr(record[name])}: leave it null")
    return choices


MAX_SAMPLES = 64
"""Most images of one row: they are in memory together until the last one is stored."""

VIEWS = ("left", "right", "back")
"""Views of a row that names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The images of one row.

    ``prompts`` are those of turns or views, empty where the row has one prompt. With ``is_scored`` the model chooses
    the best of the samples. ``keeps_all`` is whether images that are not the row's own stay.
    """

    num_samples: int = 1
    is_scored: bool = False
    prompts: tuple[str, ...] = ()
    keeps_all: bool = True


def series_cells(record: Mapping[str, Any], task: Task) -> Series:
    """The series of a row of a task that makes images."""
    if task.kind == "turns":
        return Series(prompts=_turns(record.get("prompts"), task), keeps_all=_keeps_all(record, "last"))
    if task.kind == "views":
        return Series(prompts=tuple(_view_prompt(view) for view in _views(record.get("view_names"))))
    best_of = _count("best_of", record.get("best_of"), least=2)
    num_samples = _count("num_samples", record.get("num_samples"))
    if best_of is not None and num_samples is not None:
        raise ManifestRowError(f"num_samples and best_of are given, {num_samples} and {best_of}: leave one null")
    if best_of is not None:
        return Series(num_samples=best_of, is_scored=True, keeps_all=_keeps_all(record, "best"))
    if (keep := text_cell("keep_images", record.get("keep_images"))) is not None:
        raise ManifestRowError(f"keep_images needs best_of, got {short_repr(keep)}: leave it null")
    return Series(num_samples=num_samples or 1)


def _turns(value: object, task: Task) -> tuple[str, ...]:
    prompts = texts_cell("prompts", value)
    if prompts is None:
        raise ManifestRowError(f"prompts is null, task {task.name!r} needs it: give a list of prompts, one per turn")
    return _not_too_many("prompts", prompts)


def _views(value: object) -> tuple[str, ...]:
    views = _not_too_many("view_names", texts_cell("view_names", value) or VIEWS)
    for view in views:
        if has_control_characters(view):
            raise ManifestRowError(f"view_names must hold words without line breaks, got {short_repr(view)}")
    return views


def _view_prompt(view: str) -> str:
    words = multi_view(view).words
    assert words is not None
    return words


def _keeps_all(record: Mapping[str, Any], otherwise: str) -> bool:
    keep = text_cell("keep_images", record.get("keep_images")) or otherwise
    if keep not in (otherwise, "all"):
        raise ManifestRowError(f"keep_images must be {otherwise!r} or 'all' here, got {short_repr(keep)}")
    return keep == "all"


def _count(column: str, value: object, least: int = 1) -> int | None:
    count = whole_cell(column, value)
    if count is not None and not least <= count <= MAX_SAMPLES:
        raise ManifestRowError(f"{column} must be from {least} to {MAX_SAMPLES}, got {count}")
    return count


def _not_too_many(column: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    if len(texts) > MAX_SAMPLES:
        raise ManifestRowError(f"{column} must be at most {MAX_SAMPLES}, got {len(texts)}: split the row")
    return texts
