"""What ``dimoo-batch tasks`` shows: each task, its columns, and a row that asks for it."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from manifests.row.task_name import REFERENCE_TASKS
from manifests.tasks import SETTING_COLUMNS, TASKS, Task

ROW_COLUMNS = ("id", "task", "seed", "preset")
"""Columns that a row of any task may have."""

_EXAMPLES: dict[str, Any] = {
    "style_image": "painting.png",
    "vq_codes": [2891, 17, 5, 640],
    "vq_grid": [2, 2],
    "prompts": ["Remove the dog.", "Make it winter."],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEntry:
    """One task; ``one_of`` are columns of which a row fills exactly one, ``example`` is a complete row.

    ``is_reference_name`` is of names that only the reference's scripts have.
    """

    name: str
    meaning: str
    required: tuple[str, ...]
    one_of: tuple[str, ...]
    optional: tuple[str, ...]
    example: dict[str, Any]
    is_reference_name: bool

    def to_json(self) -> dict[str, Any]:
        """The entry for programs."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The entry for people."""
        yield f"{self.name}: {self.meaning}{' (a name of the reference)' if self.is_reference_name else ''}"
        needed = ", ".join(self.required) or f"nothing but one of {', '.join(self.one_of)}"
        yield f"  required  {needed}"
        if self.required and self.one_of:
            yield f"  one of    {', '.join(self.one_of)}"
        yield f"  optional  {', '.join(self.optional)}"
        yield f"  example   {json.dumps(self.example, ensure_ascii=False)}"


def task_entries() -> list[TaskEntry]:
    """Every task of the product, in the order of the table."""
    return [_entry(task) for task in TASKS.values()]


def reference_entries() -> list[TaskEntry]:
    """Every task by a name that only the reference's scripts have, in the order of the table."""
    return [_entry(task) for task in REFERENCE_TASKS.values()]


def _entry(task: Task) -> TaskEntry:
    settings = SETTING_COLUMNS[task.kind]
    required = [*(["prompt"] if task.needs_prompt else []), *task.needed_columns]
    one_of = task.one_of
    example: dict[str, Any] = {"task": task.name}
    if task.needs_prompt:
        example["prompt"] = "What is in the picture?" if task.kind == "text" else "a red bicycle"
    if task.needs_image:
        example["image"] = "photo.png"
    example |= {name: _EXAMPLES[name] for name in required if name in _EXAMPLES}
    if task.mask_columns:
        example["mask_ratio"] = [0.5, 0.5]
    return TaskEntry(
        name=task.name,
        meaning=task.meaning,
        required=tuple(required),
        one_of=one_of,
        optional=(
            *(("prompt",) if task.takes_prompt and not task.needs_prompt else ()),
            *(name for name in settings if name not in (*one_of, *required, *task.unused_columns)),
            *ROW_COLUMNS,
        ),
        example=example,
        is_reference_name=task.name in REFERENCE_TASKS,
    )
