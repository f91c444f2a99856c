"""A column that a source lacks altogether: which one, and what was probably meant by those that are there."""

from collections.abc import Collection, Iterator

from jobs.manifest.text_source import delimiter_hint
from manifests.columns import COLUMNS
from manifests.schema import nearest_name
from manifests.tasks import Task

_MAX_LISTED = 12
_EQUAL_RATIO = 1.0  # for a task there is an option, so that only its own name in other letters is worth a guess


def missing_column(names: Collection[str], task: Task | None) -> str | None:
    """What to say where no row has a column that rows of this task need; None if every such column is there.

    Args:
        names: The columns of the source, and those that options add.
        task: Of the rows; None if nothing says which.
    """
    if task is None:
        if "task" in names:
            return None
        hint = _hint(("task",), names, _EQUAL_RATIO)
        return f"no column 'task' and no --task{hint or ': give --task, see dimoo-batch tasks'}"
    for needed in _needed(task):
        if not set(needed).intersection(names):
            wanted = " or ".join(map(repr, needed))
            option = "--prompt, or " if needed == ("prompt",) else ""
            found = ", ".join([name for name in names if name not in COLUMNS][:_MAX_LISTED])
            give = f": give {option}a column {wanted}"
            hint = f"; found {found}{give}, or --rename NAME={needed[0]}" if found else give
            hint = _hint(needed, names) or hint
            return f"no column {wanted}, which task {task.name!r} needs{hint}"
    return None


def _needed(task: Task) -> Iterator[tuple[str, ...]]:
    """Columns that a row of the task fills, or of which it fills one."""
    if task.needs_prompt:
        yield ("prompt",)
    yield from ((column,) for column in task.needed_columns)
    if task.one_of:
        yield task.one_of


def _hint(needed: Collection[str], names: Collection[str], ratio: float = 0.6) -> str:
    """What was probably meant, and how to say it; empty if nothing comes near."""
    unknown = [name for name in names if name not in COLUMNS]
    for name in unknown:
        if mended := delimiter_hint(name):
            return f"; found {name!r}: {mended}"
    for column in needed:
        if near := nearest_name(column, unknown, ratio):
            return f"; found {near!r}: did you mean that? Then give --rename '{near}={column}'"
    return ""
