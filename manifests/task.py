"""The tasks a row can ask for, as one table: what each needs and which settings it takes."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

TaskKind = Literal["image", "text"]

SETTING_COLUMNS: Mapping[TaskKind, tuple[str, ...]] = MappingProxyType(
    {
        "image": ("width", "height", "steps", "cfg_scale", "temperature"),
        "text": ("max_tokens", "block_length", "steps", "cfg_scale", "temperature"),
    }
)
"""Columns that set how a result of each kind is made; ``seed`` belongs to every row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing the model can be asked to do.

    ``default_prompt`` stands in where neither the row nor the job gives a prompt.
    """

    name: str
    kind: TaskKind
    meaning: str
    needs_image: bool
    needs_prompt: bool
    default_prompt: str | None = None

    @property
    def unused_columns(self) -> tuple[str, ...]:
        """Known columns that must be null in a row of this task, since they would have no effect."""
        settings = dict.fromkeys(name for names in SETTING_COLUMNS.values() for name in names)
        unused = tuple(name for name in settings if name not in SETTING_COLUMNS[self.kind])
        return unused if self.needs_image else ("image", *unused)


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task(
                name="text_to_image",
                kind="image",
                meaning="an image of what the prompt describes",
                needs_image=False,
                needs_prompt=True,
            ),
            Task(
                name="vqa",
                kind="text",
                meaning="an answer to the prompt, a question about the image",
                needs_image=True,
                needs_prompt=True,
            ),
            Task(
                name="caption",
                kind="text",
                meaning="a description of the image",
                needs_image=True,
                needs_prompt=False,
                default_prompt="Describe this image in detail.",
            ),
        )
    }
)
"""Every task by name."""


def nearest_task(name: str) -> str | None:
    """The known task a mistyped name most likely means; None when nothing is near."""
    folded = name.strip().lower().replace("-", "_").replace(" ", "_")
    near = difflib.get_close_matches(folded, TASKS, n=1, cutoff=0.6)
    return near[0] if near else None
