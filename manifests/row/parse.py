"""One row of a manifest, and the parser that turns a record into it or into a failure.

A wrong row is data: it becomes a ``RowFailure`` and the rows after it continue. Whether the columns of
the file are right is checked once, in ``schema``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dimoo_core.errors import ENDS_THE_PROCESS, ConfigError
from dimoo_core.presets import DEFAULT_PRESET, Preset, find_preset
from dimoo_core.settings import ChoiceSettings, ImageSettings, TextSettings
from manifests.cells import UndecodableText, has_control_characters, short_repr, text_cell, whole_cell
from manifests.columns import COLUMNS
from manifests.errors import FailureClass, ManifestRowError, RowFailure
from manifests.redact import error_words
from manifests.row.captions import CaptionRequest, caption_cells
from manifests.row.content_id import content_id
from manifests.row.images import CodeGrid, ImageSource, code_grid_cells, image_source, image_sources
from manifests.row.mask import Mask, mask_cells
from manifests.row.series import Series, choices_cell, series_cells
from manifests.row.settings import RowDefaults, choice_settings, image_settings, text_settings
from manifests.row.task_name import find_task, unknown_task
from manifests.tasks import TASKS, Task

__all__ = ["ImageSource", "Row", "RowDefaults", "RowFailure", "content_id", "parse_row", "parse_rows"]

MAX_ID_CHARACTERS = 512
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row, checked and complete; ``index`` counts from 0 over the whole manifest.

    ``seed`` is None when the row gives none: it is then derived from the job's seed and ``id``. ``settings`` is None
    where the image codec alone is asked. ``images`` are in place of ``image`` where the row has several.
    """

    index: int
    id: str
    task: str
    prompt: str
    image: ImageSource | None
    settings: ImageSettings | TextSettings | ChoiceSettings | None
    seed: int | None
    preset: str = DEFAULT_PRESET
    mask: Mask | None = None
    codes: CodeGrid | None = None
    negative_prompt: str | None = None
    style_image: ImageSource | None = None
    images: tuple[ImageSource, ...] = ()
    series: Series = field(default_factory=Series)
    choices: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[ImageSource, ...]:
        """Every image that the model is given, in the order in which it sees them."""
        return self.images or tuple(source for source in (self.image, self.style_image) if source is not None)


def parse_rows(batch: pa.RecordBatch | pa.Table, first_index: int, defaults: RowDefaults) -> Iterator[Row | RowFailure]:
    """One ``Row`` or ``RowFailure`` for each row of the batch, in order.

    Image bytes are copied out of the batch one row at a time.
    """
    known = batch.select([name for name in batch.schema.names if name in COLUMNS])
    for index, record in enumerate(cells_of_rows(known), first_index):
        try:
            yield parse_row(record, index, defaults)
        except ENDS_THE_PROCESS:
            raise
        except BaseException as error:  # of any kind: it is this row's
            failure_class: FailureClass = "oom" if isinstance(error, MemoryError) else "bad_input"
            words = error_words(error)
            yield RowFailure(index, _failure_id(record), "manifest", type(error).__name__, words, failure_class)


def cells_of_rows(batch: pa.RecordBatch | pa.Table) -> Iterator[dict[str, Any]]:
    """Every cell of each row by the name of its column, in order, as Python values."""
    columns = [_cells(batch.column(name)) for name in batch.schema.names]
    for _ in range(batch.num_rows):
        yield {name: next(cells) for name, cells in zip(batch.schema.names, columns, strict=True)}


def parse_row(record: Mapping[str, Any], index: int, defaults: RowDefaults) -> Row:
    """The row that a record of Python values describes; columns that are not known are ignored.

    Raises:
        ManifestRowError: A value is missing, has the wrong type or range, or does not belong to the task.
    """
    row_id = id_of(record)
    task = _task(record, defaults)
    image = image_source(record.get("image"))
    images = image_sources(record.get("images")) if task.takes_images else ()
    _check_one_input(task, image, images)
    mask = mask_cells(record, task.name, can_grow=task.can_grow) if task.kind == "painting" else None
    mask_image = mask.image if mask else image_source(record.get("mask_image"), "mask_image")
    style_image = image_source(record.get("style_image"), "style_image")
    if task.kind == "style" and style_image is None:
        raise ManifestRowError(f"style_image is null, task {task.name!r} needs one: give a URI or bytes")
    sources = {"image": image, "mask_image": mask_image, "style_image": style_image}
    shown_cells = {**record, **{name: source.name if source else None for name, source in sources.items()}}
    for name in task.unused_columns:
        value = shown_cells.get(name)
        if value is not None:
            raise ManifestRowError(f"{name} is not used by task {task.name!r}, got {short_repr(value)}: leave it null")
    preset = _preset(record, defaults)
    caption = caption_cells(record, defaults.captions) if task.has_details else None
    if caption is not None and record.get("max_tokens") is None:
        record = {**record, "max_tokens": caption.max_tokens}
    choices = choices_cell(record, task)
    try:
        settings: ImageSettings | TextSettings | ChoiceSettings | None
        if task.kind in ("encoding", "decoding"):
            settings = None
        elif task.kind == "score" or choices:
            settings = choice_settings(record, defaults.understanding)
        elif task.of_kind.makes_text:
            settings = text_settings(record, preset.text(defaults.understanding, defaults.explicit_understanding))
        else:
            settings = image_settings(record, defaults.image_settings(task, preset))
    except ConfigError as error:
        raise ManifestRowError(str(error)) from error
    series = series_cells(record, task) if isinstance(settings, ImageSettings) else Series()
    return Row(
        index=index,
        id=row_id,
        task=task.name,
        prompt=_prompt(record, task, defaults, caption) if task.takes_prompt else "\n".join(series.prompts),
        negative_prompt=_negative_prompt(record, settings) if isinstance(settings, ImageSettings) else None,
        style_image=style_image,
        series=series,
        choices=choices,
        image=image,
        images=images,
        mask=mask,
        codes=code_grid_cells(record, task.name) if task.needs_codes else None,
        settings=settings,
        seed=_seed(record),
        preset=preset.name,
    )


def _check_one_input(task: Task, image: ImageSource | None, images: tuple[ImageSource, ...]) -> None:
    if image is not None and images:
        raise ManifestRowError(f"image and images are given, {image.name} and {len(images)} in images: leave one null")
    if task.needs_image and image is None and not images:
        several = ", or several in images" if task.takes_images else ""
        raise ManifestRowError(f"image is null, task {task.name!r} needs one: give a URI or bytes{several}")


def _cells(column: pa.Array | pa.ChunkedArray) -> Iterator[object]:
    """Python values; all at once where they are small and sure to be decodable."""
    if pa.types.is_primitive(column.type):
        yield from column.to_pylist()
        return
    for scalar in column:
        try:
            yield scalar.as_py()
        except UnicodeDecodeError as error:
            yield UndecodableText(error.object)


def id_of(record: Mapping[str, Any]) -> str:
    """What a row is known by: its id, or the digest of its content."""
    row_id = text_cell("id", record.get("id"))
    if row_id is None:
        return content_id(record)
    if len(row_id) > MAX_ID_CHARACTERS:
        raise ManifestRowError(f"id must have at most {MAX_ID_CHARACTERS} characters, got {len(row_id)}")
    if has_control_characters(row_id):
        raise ManifestRowError(f"id must not hold line breaks or other control characters, got {short_repr(row_id)}")
    return row_id


def _failure_id(record: Mapping[str, Any]) -> str:
    try:
        return id_of(record)
    except ManifestRowError:
        return content_id(record)


def _task(record: Mapping[str, Any], defaults: RowDefaults) -> Task:
    name = text_cell("task", record.get("task")) or defaults.task
    if name is None:
        raise ManifestRowError(f"task is null and the job sets no default task: give one of {', '.join(TASKS)}")
    task = find_task(name)
    if task is None:
        raise ManifestRowError(unknown_task(name))
    return task


def _preset(record: Mapping[str, Any], defaults: RowDefaults) -> Preset:
    try:
        return find_preset(text_cell("preset", record.get("preset")) or defaults.preset)
    except ConfigError as error:
        raise ManifestRowError(str(error)) from error


def _prompt(record: Mapping[str, Any], task: Task, defaults: RowDefaults, caption: CaptionRequest | None) -> str:
    prompt = text_cell("prompt", record.get("prompt")) if caption is None else caption.prompt
    prompt = task.default_prompt if task.keeps_words else prompt or defaults.prompt or task.default_prompt
    if prompt is None and task.needs_prompt:
        raise ManifestRowError(f"prompt is null and the job sets no default prompt, task {task.name!r} needs one")
    return prompt or ""


def _negative_prompt(record: Mapping[str, Any], settings: ImageSettings) -> str | None:
    prompt = text_cell("negative_prompt", record.get("negative_prompt"))
    if prompt is not None and settings.cfg_scale == 0:
        raise ManifestRowError(
            f"negative_prompt has no effect without guidance, got {short_repr(prompt)} and cfg_scale 0: give a "
            "cfg_scale"
        )
    return prompt


def _seed(record: Mapping[str, Any]) -> int | None:
    seed = whole_cell("seed", record.get("seed"))
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise ManifestRowError(f"seed must be from 0 to 2^63-1, got {seed}")
    return seed
