"""Memory that a run, a row or a benchmark needs, and the type of weights: asked for, recorded, or what fits."""

import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from dimoo_core.checkpoint.check import CheckedCheckpoint, expected_shapes
from dimoo_core.checkpoint.lora import check_adapter
from dimoo_core.files import weight_paths
from dimoo_core.memory.check import check_memory, dtype_that_fits
from dimoo_core.memory.need import MemoryNeed, RequestShape, size_words
from dimoo_core.settings import PIXELS_PER_TOKEN, DtypeName, EngineConfig, ImageSettings, Resolution, TextSettings
from jobs.run.workers import Workers
from jobs.spec.resolve import with_generation_defaults
from jobs.spec.spec import JobSpec
from manifests.errors import RowFailure
from manifests.row.parse import Row, parse_rows
from pipeline.manifest import ManifestSource, segment_reader
from pipeline.output.directory import RunDirectory
from pipeline.protocol.settings import RunSettings

log = logging.getLogger("dimoo_batch.jobs")

_FIRST_ROWS = 64  # are looked at; a manifest is long
_LEAST_PX = PIXELS_PER_TOKEN**2  # of an image whose size is only in its file


def memory_of_rows(
    settings: RunSettings, found: CheckedCheckpoint, rows: Iterable[Row | RowFailure], num_rows: int
) -> MemoryNeed:
    """What each worker needs for so many rows, such as these; what is only in files is counted as the least."""
    shapes = [row_shape(row, settings, found) for row in rows if isinstance(row, Row)]
    return memory_of_shapes(found, settings.results.device, settings.results.dtype, settings.engine, shapes, num_rows)


def memory_of_shapes(
    found: CheckedCheckpoint,
    device: str,
    dtype: DtypeName,
    engine: EngineConfig,
    shapes: Iterable[RequestShape] = (),
    num_requests: int = 1,
) -> MemoryNeed:
    """What one process needs for requests of which these are some, the largest of them counted."""
    nothing = RequestShape(num_sequences=1, num_tokens=1, num_read=1, num_columns=1, image_px=_LEAST_PX)
    known = [nothing, *shapes]
    largest = max(known, key=lambda shape: (shape.num_tokens, shape.num_read * shape.num_columns))
    adapted = 0
    if found.adapter is not None:
        shapes_of = expected_shapes(found.config)
        adapted = max(math.prod(shapes_of[name]) for name in check_adapter(found.adapter, shapes_of))
    return MemoryNeed(
        config=found.config,
        codec=found.codec,
        dtype=dtype,
        device=device,
        shape=replace(largest, image_px=max(shape.image_px for shape in known)),
        num_requests=num_requests,
        max_step_tokens=engine.max_step_tokens,
        adapter_bytes=sum(path.stat().st_size for path in found.adapter.glob("*.safetensors")) if found.adapter else 0,
        adapted_numbers=adapted,
        largest_file_bytes=max(path.stat().st_size for path in weight_paths(found.directory)),
    )


def first_rows(source: ManifestSource, settings: RunSettings, limit: int | None) -> list[Row | RowFailure]:
    """The first rows of a manifest, as they are before hooks look at them."""
    with segment_reader() as reader:
        for segment in islice(source.plan(segment_rows=_FIRST_ROWS, limit=limit), 1):
            return list(parse_rows(reader.read(segment), segment.first_row, settings.results.defaults))
    return []


def row_shape(row: Row, settings: RunSettings, found: CheckedCheckpoint) -> RequestShape:
    """The request of a row; the size of an image that has to be opened for it is taken to be what crops make of it."""
    if isinstance(row.settings, ImageSettings):
        if not row.inputs:
            return settings_shape(row.settings, found)
        source_px = 0 if row.mask is not None else _cropped_px(settings.results.image_to_image.resolution)
        image_px = source_px or _LEAST_PX
        return RequestShape.of_image(row.settings, image_px, source_px * len(row.inputs), found.codec.num_vq_embeddings)
    source_px = _cropped_px(settings.results.understanding.resolution) * len(row.inputs)
    if isinstance(row.settings, TextSettings):
        return settings_shape(row.settings, found, source_px)
    image_px = _cropped_px(settings.results.tokenize.resolution) if row.settings is None and row.inputs else source_px
    num_tokens = source_px // PIXELS_PER_TOKEN**2 + 1
    num_columns = found.tokens.vocabulary_columns.stop
    return RequestShape(num_sequences=1, num_tokens=num_tokens, num_read=1, num_columns=num_columns, image_px=image_px)


def settings_shape(
    settings: ImageSettings | TextSettings, found: CheckedCheckpoint, source_px: int = 0
) -> RequestShape:
    """The request of an image made from nothing, or of an answer about an image of so many pixels."""
    if isinstance(settings, TextSettings):
        return RequestShape.of_text(settings, source_px, found.tokens.vocabulary_columns.stop)
    return RequestShape.of_image(settings, settings.width_px * settings.height_px, 0, found.codec.num_vq_embeddings)


def memory_of_model(found: CheckedCheckpoint, device: str, dtype: DtypeName) -> MemoryNeed:
    """What one process needs for an image as large as the checkpoint makes them by default."""
    spec = with_generation_defaults(JobSpec(manifest="-"), found.directory)
    shape = settings_shape(spec.row_defaults().text_to_image, found)
    return memory_of_shapes(found, device, dtype, EngineConfig(), [shape])


def check_run_memory(need: MemoryNeed, workers: Workers, *, is_auto: bool, is_recorded: bool) -> MemoryNeed:
    """Choose the type that fits, where that is left to us, and refuse what does not.

    Args:
        is_auto: Whether the type is ours to choose.
        is_recorded: Whether the run has begun with its type, so that another is another run.
    """
    if is_auto and not is_recorded and need.is_on_host:
        chosen = replace(need, dtype=dtype_that_fits(need, num_workers=workers.count))
        if chosen.dtype != need.dtype:
            full, less = size_words(need.host_bytes), size_words(chosen.host_bytes)
            each = " for each worker" if workers.count > 1 else ""
            log.info(f"dtype {chosen.dtype}: {need.dtype} would need {full} of memory{each}, this takes {less}")
        need = chosen
    is_loading = workers.count == 0
    check_memory(need, num_workers=workers.count, is_loading=is_loading, may_change_dtype=not is_recorded)
    return need


def _cropped_px(resolution: Resolution) -> int:
    return resolution**2 if isinstance(resolution, int) else _LEAST_PX


_CHOSEN = ("float32", "bfloat16")


def with_recorded_dtype(settings: RunSettings, spec: JobSpec, run: RunDirectory) -> RunSettings:
    """The settings with the type that the run has begun with, if none is asked for: memory is not to change it.

    A type that is never chosen here was asked for then, and has to be asked for again.
    """
    recorded = (run.description() or {}).get("results", {})
    is_same_device = recorded.get("device") == settings.results.device.partition(":")[0]
    if spec.dtype != "auto" or not is_same_device or recorded.get("dtype") not in _CHOSEN:
        return settings
    return replace(settings, results=replace(settings.results, dtype=recorded["dtype"]))


def with_memory(
    settings: RunSettings,
    spec: JobSpec,
    found: CheckedCheckpoint,
    source: ManifestSource,
    local: Workers | None,
    *,
    is_begun: bool,
) -> RunSettings:
    """The settings with a type that fits on this machine; what only workers can see is left for them to check.

    Args:
        settings: Of the run, with its type as it was asked for or recorded.
        local: Its workers, if they are on this machine.
        is_begun: Whether the run has a type already.
    """
    need = memory_of_rows(settings, found, first_rows(source, settings, spec.limit), source.num_rows_of(spec.limit))
    if local is not None:
        need = check_run_memory(need, local, is_auto=spec.dtype == "auto", is_recorded=is_begun)
    left_to_workers = need if local is None or not need.is_on_host else None
    results = replace(settings.results, dtype=need.dtype)
    return replace(settings, results=results, memory=left_to_workers, is_dtype_fixed=is_begun)
