"""Whether the columns of a manifest file are usable, decided before the first row runs.

The known columns are in ``column``. Every other column passes through to the output unchanged.
"""

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

import pyarrow as pa

from manifests.columns import COLUMNS, IMAGE, IMAGES, is_text, is_texts
from manifests.errors import ManifestError
from manifests.row.settings import RowDefaults
from manifests.row.task_name import task_named
from manifests.tasks import TASKS, Task

OUTPUT_COLUMNS = (
    "row",
    "id",
    "task",
    "prompt",
    "output",
    "outputs",
    "text",
    "model_score",
    "answers",
    "width",
    "height",
    "steps",
    "cfg_scale",
    "cfg_image_scale",
    "temperature",
    "seed",
    "preset",
    "num_tokens",
    "finish_reason",
    "sha256",
    "bytes",
    "vq_codes",
    "vq_grid",
)
"""Columns of every part of the output; a column that passes through must not be named like one of them."""

RESERVED_COLUMNS = ("status", "model", "engine_s", "worker", "attempt", "committed_at")
"""Names that no output has so far and none that passes through may have, so that the output may get them."""

OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "image_url": "image",
        "image_uri": "image",
        "image_path": "image",
        "edit_type": "task",
        "ref_image_path": "style_image",
        "num_steps": "steps",
        "num_inference_steps": "steps",
        "timesteps": "steps",
        "guidance_scale": "cfg_scale",
        "cfg": "cfg_scale",
        "max_new_tokens": "max_tokens",
    }
)
"""What other tools call our columns; passing these through silently would hide that they have no effect."""

ORDINARY_NAMES = frozenset({"image_id", "prompt_id", "weight", "mask", "edit_type", "ref_image_path"})
"""Names that look like a misspelt column but are common in datasets; they pass through without a complaint.

Where our column is missed, those in ``OTHER_NAMES`` are suggested.
"""

NEAR_MISS_RATIO = 0.75
"""Similarity in [0, 1] from which an unknown name counts as misspelt: ``widht`` has 0.8, ``taks`` 0.75."""

MAX_LISTED_COLUMNS = 50


def check_schema(
    schema: pa.Schema, *, defaults: RowDefaults, passthrough: Collection[str] = (), uri: str = "manifest"
) -> None:
    """Refuse columns that would make every row fail, or that would be ignored by mistake.

    Args:
        passthrough: Columns known to be meant as they are, although their names are near a known one.
        uri: The file, for the message.

    Raises:
        ManifestError: Lists every problem and every column found.
    """
    problems = [
        *_repeated_columns(schema),
        *_missing_columns(schema, defaults),
        *_missing_masks(schema, defaults),
        *_wrong_types(schema),
        *_unused_columns(schema, defaults),
        *_near_misses(schema, defaults, passthrough),
        *_output_collisions(schema),
        *(f"passthrough names {name!r}, no such column" for name in passthrough if name not in schema.names),
    ]
    if problems:
        raise ManifestError(f"{uri}: {'; '.join(problems)}; columns found: {_listed(schema.names)}")


def check_schemas(
    schemas: Iterable[tuple[str, pa.Schema]], *, defaults: RowDefaults, passthrough: Collection[str] = ()
) -> pa.Schema:
    """Check the files of one manifest, given as (uri, schema); return the columns that pass through, alike in all.

    Raises:
        ManifestError: A file is wrong by itself, or its columns that pass through differ from the first file's.
    """
    first_uri, first = "", None
    for uri, schema in schemas:
        check_schema(schema, defaults=defaults, passthrough=passthrough, uri=uri)
        passing = passthrough_schema(schema)
        if first is None:
            first_uri, first = uri, passing
        differing = sorted(
            column
            for column in {*first.names, *passing.names}
            if column not in first.names
            or column not in passing.names
            or first.field(column).type != passing.field(column).type
        )
        if differing:
            raise ManifestError(
                f"{uri}: columns that pass through must have the same names and types as in {first_uri}, "
                f"these differ: {', '.join(differing)}"
            )
    return pa.schema([]) if first is None else first


def passthrough_schema(schema: pa.Schema) -> pa.Schema:
    """The fields that reach the output unchanged: unknown columns, and images where they are URIs."""
    return pa.schema(field.remove_metadata() for field in schema if _passes_through(field))


def _passes_through(field: pa.Field) -> bool:
    kind = COLUMNS[field.name].kind if field.name in COLUMNS else None
    return kind is None or (kind is IMAGE and is_text(field.type)) or (kind is IMAGES and is_texts(field.type))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED_COLUMNS} more" if len(names) > MAX_LISTED_COLUMNS else ""
    return ", ".join(names[:MAX_LISTED_COLUMNS]) + more if names else "none"


def _repeated_columns(schema: pa.Schema) -> Iterator[str]:
    for column, count in Counter(schema.names).items():
        if count > 1:
            yield f"column {column!r} is there {count} times, names must be unique"


def _filled(schema: pa.Schema) -> set[str]:
    """Names of the columns that can hold a value at all; Arrow's null type is an absent column."""
    return {field.name for field in schema if not pa.types.is_null(field.type)}


def _only_task(schema: pa.Schema, defaults: RowDefaults) -> Task | None:
    """The task of every row, where the columns leave no choice."""
    return None if "task" in _filled(schema) or defaults.task is None else task_named(defaults.task)


def _missing_columns(schema: pa.Schema, defaults: RowDefaults) -> Iterator[str]:
    filled = _filled(schema)
    if "task" not in filled and defaults.task is None:
        yield f"no column 'task' and the job sets no default task{_nearest_found('task', schema)}"
    only_task = _only_task(schema, defaults)
    tasks = [only_task] if only_task else list(TASKS.values())
    lacking = [
        [
            *(["prompt"] if task.needs_prompt and "prompt" not in filled and defaults.prompt is None else []),
            *(column for column in task.needed_columns if column not in filled),
            *(["image"] if task.takes_images and not filled.intersection(task.image_columns) else []),
        ]
        for task in tasks
    ]
    for column in min(lacking, key=len):
        default = " and the job sets no default prompt" if column == "prompt" else f", task {tasks[0].name!r} needs it"
        yield f"no column {column!r}{default}{_nearest_found(column, schema)}"


def _missing_masks(schema: pa.Schema, defaults: RowDefaults) -> Iterator[str]:
    task = _only_task(schema, defaults)
    if task and task.mask_columns and not _filled(schema).intersection(task.mask_columns):
        yield f"no column {' or '.join(map(repr, task.mask_columns))}, task {task.name!r} needs one of them"


def nearest_name(column: str, names: Iterable[str], ratio: float = 0.6) -> str | None:
    """Of names that are no known columns, the one by which this column was most likely meant; None if none comes near.

    Args:
        ratio: Least similarity in [0, 1]; letter case, hyphens and spaces make no difference.
    """
    unknown = {_folded(name): name for name in names if name not in COLUMNS}
    other = next((name for folded, name in unknown.items() if OTHER_NAMES.get(folded) == column), None)
    near = next(iter(difflib.get_close_matches(column, unknown, n=1, cutoff=ratio)), None)
    return other or (unknown[near] if near else None)


def _nearest_found(column: str, schema: pa.Schema) -> str:
    near = nearest_name(column, schema.names)
    return f" (nearest column found: {near!r})" if near else ""


def _wrong_types(schema: pa.Schema) -> Iterator[str]:
    for field in schema:
        column = COLUMNS.get(field.name)
        if column is not None and not pa.types.is_null(field.type) and not column.kind.accepts(field.type):
            yield f"column {field.name!r} has type {field.type}, accepted: {column.kind.accepted}"


def _unused_columns(schema: pa.Schema, defaults: RowDefaults) -> Iterator[str]:
    """Settings that the only task of the manifest does not take, such as the ``width`` of images to caption."""
    task = _only_task(schema, defaults)
    for column in task.unused_columns if task else ():
        if column in _filled(schema):
            fix = f"rename it, for instance to 'source_{column}', to pass it through"
            yield f"column {column!r} is not used by task {defaults.task!r}: {fix}"


def _near_misses(schema: pa.Schema, defaults: RowDefaults, passthrough: Collection[str]) -> Iterator[str]:
    task = _only_task(schema, defaults)
    of_no_use = task.unused_columns if task else ()
    absent = [column for column in COLUMNS if column not in schema.names and column not in of_no_use]
    for name in schema.names:
        meant = None if name in COLUMNS or name in passthrough else _meant_column(name, absent)
        if meant is not None:
            scale = " (which is one less)" if _folded(name) == "guidance_scale" else ""
            yield f"column {name!r} looks like {meant!r}{scale}: rename it, or list it in passthrough"


def _meant_column(name: str, absent: list[str]) -> str | None:
    folded = _folded(name)
    if folded in ORDINARY_NAMES or folded.startswith("source_") or (folded in COLUMNS and folded not in absent):
        return None
    if OTHER_NAMES.get(folded) in absent:
        return OTHER_NAMES[folded]
    # Two letters are too few to distinguish a typo from another name: 'id' is near 'uid' and 'aid'.
    candidates = [column for column in COLUMNS if len(column) > 2 or column == folded]
    nearest = next(iter(difflib.get_close_matches(folded, candidates, n=1, cutoff=NEAR_MISS_RATIO)), None)
    return nearest if nearest in absent else None


def _folded(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def is_taken(name: str) -> bool:
    """Whether a column that passes through may not have this name."""
    return name in (*OUTPUT_COLUMNS, *RESERVED_COLUMNS) and name not in COLUMNS


def _output_collisions(schema: pa.Schema) -> Iterator[str]:
    for name in schema.names:
        if is_taken(name):
            yield f"column {name!r} would collide with the output's own: rename it, for instance to 'source_{name}'"
