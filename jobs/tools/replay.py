"""Replays one row of a run alone, with what its image looked like after each step."""

import hashlib
import io
import json
import logging
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image

from dimoo_core.checkpoint.load import Model, load_model
from dimoo_core.checkpoint.locate import digest, find_checkpoint
from dimoo_core.decoding.base import StepTrace
from dimoo_core.engine.engine import Engine
from dimoo_core.errors import CodecNotFinite, ConfigError
from dimoo_core.memory.check import check_memory
from dimoo_core.request.request import Request, TextResult
from dimoo_core.settings import EngineConfig
from jobs.report.facts import RunFactSheet
from jobs.report.write import REPLAY_PREFIX
from jobs.run.identity import check_preset, check_version
from jobs.run.resources import memory_of_rows
from jobs.spec.resolve import check_model
from jobs.spec.result_keys import settings_from
from manifests.errors import RowFailure
from manifests.files.parquet import ParquetReader
from manifests.files.plan import Segment
from manifests.row.parse import Row
from pipeline.images.inputs import ignore_pillow_warnings
from pipeline.manifest import ManifestSource, segment_reader
from pipeline.output.directory import RunDirectory
from pipeline.output.parts import PARTS_PREFIX, parts_by_segment
from pipeline.protocol.settings import RunSettings
from pipeline.rows.flow import MadeImages, RowFlow, WeighedAnswer
from pipeline.rows.postprocess import Postprocessor, encode_image
from pipeline.rows.preprocess import Preprocessor
from pipeline.rows.row_hooks import Judged, RawRow, RowHooks
from pipeline.storage.base import Store
from pipeline.storage.reader import open_store
from pipeline.storage.retry import RetryPolicy
from pipeline.storage.uri import folder_of

log = logging.getLogger("dimoo_batch.jobs")


@dataclass(frozen=True, slots=True)
class OneRow:
    """A segment of one row, and that row as the manifest has it."""

    segment: Segment
    rows: pa.Table


def find_row(store: Store, row_id: str) -> tuple[int, dict[str, Any] | None]:
    """The row's number, and what the run recorded of it; None if it failed or was not run yet."""
    number = int(row_id) if row_id.isdecimal() else None
    by_number: dict[str, Any] | None = None
    for name in (name for parts in parts_by_segment(store.list(PARTS_PREFIX)) for name in reversed(parts)):
        with store.open(name.key) as file:
            parquet = ParquetReader(file)
            failures = json.loads(parquet.key_values.get(b"dimoo.failures", b"[]"))
            table = parquet.table(["row", "id", "text", "sha256"])
        found = table.filter(pc.equal(table.column("id"), row_id)).to_pylist()
        if found:
            return int(found[0]["row"]), found[0]
        for failure in failures:  # of a part with retries after it they may not stand any more, but those came first
            if failure["id"] == row_id:
                return int(failure["row"]), None
        if number is not None:
            by_number = next(iter(table.filter(pc.equal(table.column("row"), number)).to_pylist()), by_number)
    if number is None:
        raise ConfigError(f"no committed row with the id {row_id!r} in {store.uri}: check it, or give the row's number")
    return number, by_number


def read_row(source: ManifestSource, hooks: RowHooks, index: int) -> tuple[OneRow, Row]:
    """A row of the manifest, as the hooks leave it."""
    if not 0 <= index < source.num_rows:
        raise ConfigError(f"there is no row {index}: {source.uri} has rows 0 to {source.num_rows - 1}")
    segment = source.plan(segment_rows=1, limit=None).segment(index)
    with segment_reader() as reader:
        at = OneRow(segment, reader.read(segment))
        (item,) = hooks.rows(at.rows, index)
    if isinstance(item, RawRow):
        item = hooks.before(item)
    if isinstance(item, RowFailure):
        raise ConfigError(f"row {index} cannot be run: {item.message}")
    return at, item


def settings_of(store: Store, description: Mapping[str, Any]) -> RunSettings:
    """What the run was started with, from its own description."""
    results: Mapping[str, Any] = description["results"]
    check_version(description, store.uri)
    if results.get("adapter_digest") is not None:
        raise ConfigError("runs with an adapter cannot be replayed")
    settings = RunSettings(
        results=settings_from(results),
        model=str(description["model"]),
        output_uri=store.uri,
        sources=RunFactSheet(description, is_complete=False).sources,
    )
    if (found := digest(find_checkpoint(settings.model).directory)) != results["model_digest"]:
        raise ConfigError(
            f"{settings.model} is not what the run used: its digest is {found}, not {results['model_digest']}"
        )
    return settings


MAX_PICTURES = 16
"""Pictures of the strip; of more steps, evenly chosen ones and always the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySummary:
    """What came out; ``is_same`` compares with the run's own result, None where it has none."""

    row: int
    id: str
    outcome: str
    is_same: bool | None
    steps: int
    strip: tuple[str, ...] = ()


def replay_row(output: str, row_id: str, *, manifest: str | None) -> ReplaySummary:
    """Run one row as its run did, alone, and keep a strip of its steps in the output.

    Args:
        output: Of the run.
        row_id: The row's id, or its number in the manifest.
        manifest: Where the manifest is now; None: where the run found it.

    Raises:
        ConfigError: There is no such row, or the model, the manifest or the row's preset is not that of the run.
        NotARun, StoreError, WeightsError, ManifestError: As in a run.
    """
    with closing(open_store(output)) as store:
        description = RunDirectory(store).known_description()
        index, recorded = find_row(store, row_id)
        source = RunFactSheet(description, is_complete=False).manifest(manifest)
        settings = settings_of(store, description)
        hooks = RowHooks(settings.results.hooks, settings.results.defaults)
        at, row = read_row(source, hooks, index)
        check_preset(description, row.preset, store.uri)
        log.info(f"row {index} ({row.id}): {row.task}, loading {settings.model}")
        found = check_model(find_checkpoint(settings.model).directory, settings.adapter)
        need = memory_of_rows(settings, found, [row], 1)
        check_memory(need, may_change_dtype=False)
        return _Replay(store, settings, recorded).run(at, row, hooks)


class _Replay:
    """One row on an engine of its own."""

    def __init__(self, store: Store, settings: RunSettings, recorded: Mapping[str, Any] | None) -> None:
        ignore_pillow_warnings()
        self._store, self._settings, self._recorded = store, settings, recorded
        directory = find_checkpoint(settings.model).directory
        self._model: Model = load_model(directory, device=settings.results.device, dtype=settings.results.dtype)
        self._grids: list[torch.Tensor] = []
        self._num_steps = 0

    def run(self, at: OneRow, row: Row, hooks: RowHooks) -> ReplaySummary:
        retry_policy = RetryPolicy(threading.Event())
        with closing(Preprocessor(self._model, self._settings, retry_policy)) as preprocessor:
            postprocessor = Postprocessor(
                self._model,
                self._settings,
                RunDirectory(self._store),
                retry_policy,
                hooks,
                preprocessor.inputs.fetch,
            )
            flow = preprocessor.preprocess(row, folder_of(at.segment.file_uri))
            judged = flow if isinstance(flow, RowFailure) else self._judged(flow, at, row, postprocessor)
        is_same, strip = None, tuple[str, ...]()
        if isinstance(judged, RowFailure):
            outcome = f"failed at {judged.stage}: {judged.message}"
        elif judged.pixels is None:
            outcome = judged.text or ""
            is_same = self._is("text", outcome)
        else:
            folder, image = f"{REPLAY_PREFIX}{row.index:010d}/", self._settings.results.image
            data = encode_image(judged.pixels, image)
            self._store.put(f"{folder}result.{image.format}", data)
            outcome = f"an image of {len(data)} bytes"
            is_same, strip = self._is("sha256", hashlib.sha256(data).hexdigest()), self._strip(folder)
        return ReplaySummary(
            row=row.index, id=row.id, outcome=outcome, is_same=is_same, steps=self._num_steps, strip=strip
        )

    def _judged(self, flow: RowFlow, at: OneRow, row: Row, postprocessor: Postprocessor) -> Judged | RowFailure:
        """What the engine makes of the row, as the hooks leave it."""
        self._step(flow)
        error, result = flow.error, flow.result
        if isinstance(result, TextResult):
            return postprocessor.judged(row, at, text=self._model.layout.answer_text(result.token_ids))
        if isinstance(result, WeighedAnswer):
            return postprocessor.judged(row, at, text=result.text)
        if isinstance(result, MadeImages):
            (images,) = postprocessor.through_codec([result])
            if isinstance(images, list):
                return postprocessor.judged(row, at, pixels=images[result.chosen])
            assert isinstance(images, CodecNotFinite)
            error = images
        if error is None:
            raise ConfigError(f"row {row.index} is a {row.task}: only rows that make images or texts can be replayed")
        return RowFailure(row.index, row.id, "generate", type(error).__name__, str(error))

    def _step(self, flow: RowFlow) -> None:
        watched = next(iter(flow.first_requests), None)
        canvas = watched.target.clone() if watched is not None else torch.empty(0)

        def observe(request_id: str, trace: StepTrace) -> None:
            if watched is not None and request_id == watched.request_id:
                canvas[trace.read.cpu()] = trace.sampled_ids.cpu()
                if (grid := self._grid(watched, canvas)) is not None:
                    self._grids.append(grid)

        of_run = self._settings.results
        config = EngineConfig(batch_invariance=of_run.batch_invariance, compile=of_run.compile)
        engine = Engine(self._model.transformer, self._model.tokens, config, observe)
        for request in flow.first_requests:
            engine.submit(request)
        while engine.num_unfinished:
            for result in engine.step():
                for request in flow.take(result):
                    engine.submit(request)
        self._num_steps = engine.stats.num_steps

    def _grid(self, request: Request, canvas: torch.Tensor) -> torch.Tensor | None:
        """The codes of an image in progress, (rows, columns), masked ones as the step guessed them; None for texts."""
        tokens = self._model.tokens
        is_newline = canvas == tokens.newline
        num_rows = int(is_newline.sum())
        codes = canvas[~is_newline] - tokens.image_offset
        if not num_rows or len(codes) % num_rows or bool((codes < 0).any()):
            return None
        return codes.view(num_rows, -1)

    def _strip(self, folder: str) -> tuple[str, ...]:
        count = min(MAX_PICTURES, len(self._grids))
        steps = sorted({round(at * (len(self._grids) - 1) / max(1, count - 1)) for at in range(count)})
        keys = []
        for step, picture in zip(steps, self._model.codec.decode([self._grids[step] for step in steps]), strict=True):
            key = f"{folder}step-{step + 1:04d}.webp"
            self._store.put(key, _webp(picture), content_type="image/webp")
            keys.append(key)
        return tuple(keys)

    def _is(self, name: str, value: str) -> bool | None:
        return self._recorded[name] == value if self._recorded is not None else None


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=max(picture.size) <= 256, quality=85)
    return buffer.getvalue()
