"""What ``dimoo-batch tasks`` and ``dimoo-batch models`` show."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from dimoo_core.errors import WeightsError
from dimoo_core.files import expanded_path
from dimoo_core.memory.need import size_words
from dimoo_core.settings import DtypeName
from manifests.row.task_name import REFERENCE_TASKS
from manifests.tasks import TASKS, Task

if TYPE_CHECKING:
    from dimoo_core.checkpoint.check import CheckedCheckpoint

PUBLISHED = "Alpha-VLLM/Lumina-DiMOO"
_NOTES = {
    BUILTIN: "embedded, draws and describes coloured shapes only",
    PUBLISHED: "the published model; 16 GB, needs a GPU",
}


MEMORY_DTYPES: tuple[DtypeName, ...] = ("bfloat16", "float32")
"""Those that memory is printed for."""


class ModelState(StrEnum):
    """Whether a run could load a checkpoint now."""

    USABLE = "usable"
    NOT_HERE = "not on this machine"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One checkpoint; ``name`` is what ``--model`` takes, ``num_bytes`` what its weights take on the disk,
    ``image_offset`` the id of VQ code 0."""

    name: str
    state: ModelState
    note: str = ""
    problem: str = ""
    directory: str | None = None
    num_parameters: int | None = None
    num_layers: int | None = None
    num_bytes: int | None = None
    memory_bytes: dict[str, int] | None = None  # that a worker takes, by the type of the weights
    image_offset: int | None = None

    def words(self) -> str:
        """In one line."""
        facts = [str(self.state)]
        if self.num_parameters is not None and self.num_bytes is not None:
            facts.append(f"{_short(self.num_parameters)} parameters in {self.num_layers} layers")
            facts.append(f"{self.num_bytes / 2**20:,.1f} MiB")
        if self.memory_bytes is not None:
            sizes = ", ".join(f"{size_words(size)} in {dtype}" for dtype, size in self.memory_bytes.items())
            facts.append(f"takes {sizes} of memory")
        if self.image_offset is not None:
            facts.append(f"VQ codes from id {self.image_offset}")
        facts += [each for each in (self.problem, self.note) if each]
        return f"{self.name}: {', '.join(facts)}"


def model_entries() -> list[ModelEntry]:
    """The embedded checkpoint, the published one, then every other in the hub's cache that is of this architecture."""
    cached = [name for name in _cached_repositories() if name != PUBLISHED]
    others = [entry for entry in map(model_entry, cached) if entry.state is ModelState.USABLE]
    return [model_entry(BUILTIN), model_entry(PUBLISHED), *others]


def model_entry(model: str) -> ModelEntry:
    """One checkpoint as it is on this machine; nothing is downloaded, and no weight is read."""
    return checked_model(model)[0]


def checked_model(model: str) -> "tuple[ModelEntry, CheckedCheckpoint | None]":
    """As ``model_entry``, with the checkpoint if a run could load it."""
    from dimoo_core.checkpoint.check import check_checkpoint
    from jobs.run.resources import memory_of_model

    note = _NOTES.get(model, "")
    try:
        directory = _directory(model)
        if directory is None:
            return ModelEntry(name=model, state=ModelState.NOT_HERE, note=note), None
        found = check_checkpoint(directory)
        memory_bytes: dict[str, int] = {
            dtype: memory_of_model(found, "cpu", dtype).host_bytes for dtype in MEMORY_DTYPES
        }
    except WeightsError as error:
        return ModelEntry(name=model, state=ModelState.BROKEN, problem=str(error), note=note), None
    entry = ModelEntry(
        name=model,
        state=ModelState.USABLE,
        note=note,
        directory=str(directory),
        num_parameters=found.num_parameters,
        num_layers=found.config.num_layers,
        image_offset=found.tokens.image_offset,
        num_bytes=sum(path.stat().st_size for path in directory.rglob("*.safetensors")),
        memory_bytes=memory_bytes,
    )
    return entry, found


def _directory(model: str) -> Path | None:
    """Where the checkpoint is; None if it is the hub's and not in the cache."""
    path = expanded_path(model)
    if model == BUILTIN or path.is_dir() or "/" not in model.strip("./"):
        return find_checkpoint(model).directory
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = model.partition("@")
    try:
        found = try_to_load_from_cache(repository, "config.json", revision=revision or None)
    except ValueError as error:  # no name that the hub could have
        raise WeightsError(f"no checkpoint at {model!r}: {error}") from error
    return Path(found).parent if isinstance(found, str) else None


def _cached_repositories() -> Iterator[str]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        yield from sorted(repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "model")
    except CacheNotFound:
        return


def _short(number: int) -> str:
    for unit, size in (("billion", 10**9), ("million", 10**6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:,}"


ROW_COLUMNS = ("id", "task", "seed", "preset")
"""Columns that a row of any task may have."""


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

    def lines(self) -> Iterator[str]:
        """The entry for people."""
        yield f"{self.name}: {self.meaning}{' (a name of the reference)' if self.is_reference_name else ''}"
        needed = ", ".join(self.required) or f"one of {', '.join(self.one_of)}"
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
    required = [*(["prompt"] if task.needs_prompt else []), *task.needed_columns]
    one_of = task.one_of
    example: dict[str, Any] = {"task": task.name}
    if task.needs_prompt:
        example["prompt"] = "What is in the picture?" if task.kind == "text" else "a red bicycle"
    if task.needs_image:
        example["image"] = "photo.png"
    example |= task.of_kind.needed
    if task.mask_columns:
        example["mask_ratio"] = [0.5, 0.5]
    return TaskEntry(
        name=task.name,
        meaning=task.meaning,
        required=tuple(required),
        one_of=one_of,
        optional=(
            *(("prompt",) if task.takes_prompt and not task.needs_prompt else ()),
            *(name for name in task.of_kind.settings if name not in (*one_of, *required, *task.unused_columns)),
            *ROW_COLUMNS,
        ),
        example=example,
        is_reference_name=task.name in REFERENCE_TASKS,
    )
