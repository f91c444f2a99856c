"""Which task a name means: one of the product's own, or one that the reference's scripts take as ``edit_type``.

A name of the reference is a task of its own here, which asks for exactly what the script computes: its system prompt,
its words, its images. Names that both have, such as ``canny_control``, are among the product's own and mean the same.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from dimoo_core.request.templates import MAP_NAMES, MULTI_VIEW_SYSTEM, edit_type_template
from manifests.cells import has_control_characters, short_repr
from manifests.row.series import VIEWS
from manifests.tasks import TASKS, Task

_VIEW_PREFIX = "multi_view_"
_IGNORED = "; prompt is ignored"


def _of_script(name: str, meaning: str) -> Task:
    """The task that the reference's script runs for an ``edit_type`` with words of its own.

    Source: ``inference_i2i.py`` of the reference, where two images go with ``image_ref_transfer`` alone.
    """
    template = edit_type_template(name)
    assert template.words is not None
    return Task(
        name=name,
        kind="style" if "image_ref_transfer" in name else "image_to_image",
        meaning=f"{meaning}{_IGNORED}",
        needs_image=True,
        needs_prompt=False,
        default_prompt=template.words,
        system=template.system,
        keeps_words=True,
    )


def _reference_tasks() -> Iterator[Task]:
    for family, what in MAP_NAMES.items():
        yield _of_script(f"{family}_dense", f"predict the {what} of the image")
    for family in MAP_NAMES:
        yield _of_script(f"dense_{family}", "predict a dense map of the image; the fixed prompt does not name its kind")
    yield replace(TASKS["seg_pred"], name="sam2mask_pred")
    yield _of_script("image_ref_transfer", "redraw the image in the style of the style image, and in its size")
    yield _of_script("ref_transfer", "style transfer's prompt without a style image")
    for view in VIEWS:
        yield _of_view(view, f"{_VIEW_PREFIX}{view}")


def _of_view(view: str, name: str) -> Task:
    return _of_script(name, f"generate the {view} view; the image is the front view")


REFERENCE_TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _reference_tasks()})
"""Tasks by the names that only the reference has; any other last word of ``multi_view_`` is a view too."""


def find_task(name: str) -> Task | None:
    """The task of a name; None of a name that means none."""
    return TASKS.get(name) or REFERENCE_TASKS.get(name) or _find_view(name)


def task_named(name: str) -> Task:
    """The task of a checked row."""
    task = find_task(name)
    assert task is not None, name
    return task


@lru_cache(256)
def _find_view(name: str) -> Task | None:
    """Of ``multi_view_top`` and the like the view that the reference takes, which is the last word."""
    view = name.rpartition("_")[2]
    if not name.startswith(_VIEW_PREFIX) or not view or view != view.strip() or has_control_characters(name):
        return None
    return _of_view(view, name) if edit_type_template(name).system == MULTI_VIEW_SYSTEM else None


def nearest_task(name: str) -> str | None:
    """The known name that a mistyped one most likely means; None when nothing is near."""
    folded = name.strip().lower().replace("-", "_").replace(" ", "_")
    near = difflib.get_close_matches(folded, (*TASKS, *REFERENCE_TASKS), n=1, cutoff=0.6)
    return near[0] if near else None


def unknown_task(name: str) -> str:
    """The message for a name that no task has."""
    near = nearest_task(name)
    hint = f" (did you mean {near!r}?)" if near else ""
    return f"task must be one of {', '.join(TASKS)}, got {short_repr(name)}{hint}"
