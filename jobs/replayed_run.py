"""A run as its output describes it, and one row of its manifest: what a replay starts from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from dimoo_core.checkpoint import digest, find_checkpoint
from dimoo_core.engine_config import EngineConfig
from dimoo_core.errors import ConfigError
from manifests.parquet_reader import ParquetReader
from manifests.reader import SegmentReader
from manifests.row import Row, RowDefaults, RowFailure
from manifests.shard import Segment
from pipeline.hook import hook_digest
from pipeline.hook_settings import HookSettings
from pipeline.manifest_source import ManifestSource
from pipeline.object_reader import ObjectReader
from pipeline.row_hooks import RawRow, RowHooks
from pipeline.run_directory import PARTS_PREFIX
from pipeline.run_settings import RunSettings
from pipeline.store import Store


@dataclass(frozen=True, slots=True)
class OneRow:
    """A segment of one row, and that row as the manifest has it."""

    segment: Segment
    rows: pa.Table


def find_row(store: Store, row_id: str) -> tuple[int, dict[str, Any] | None]:
    """The row's number, and what the run recorded of it; None if it failed or was not run yet."""
    number = int(row_id) if row_id.isdecimal() else None
    by_number: dict[str, Any] | None = None
    for key in sorted(store.list(PARTS_PREFIX)):
        with store.open(key) as file:
            parquet = ParquetReader(file)
            for failure in json.loads(parquet.key_values.get(b"dimoo.failures", b"[]")):
                if failure["id"] == row_id:
                    return int(failure["row"]), None
            table = parquet.table(["row", "id", "text", "sha256"])
        found = table.filter(pc.equal(table.column("id"), row_id)).to_pylist()
        if found:
            return int(found[0]["row"]), found[0]
        if number is not None:
            by_number = next(iter(table.filter(pc.equal(table.column("row"), number)).to_pylist()), by_number)
    if number is None:
        raise ConfigError(f"no row with the id {row_id!r} is committed in {store.uri}: give its number in the manifest")
    return number, by_number


def read_row(source: ManifestSource, hooks: RowHooks, index: int) -> tuple[OneRow, Row]:
    """A row of the manifest, as the hooks leave it.

    Raises:
        ConfigError: There is none, or it cannot be run.
    """
    if not 0 <= index < source.num_rows:
        raise ConfigError(f"there is no row {index}: {source.uri} has rows 0 to {source.num_rows - 1}")
    objects = ObjectReader()
    try:
        with SegmentReader(objects.open) as reader:
            plan = source.plan(segment_rows=1, limit=None)
            segment = plan.segment(index)
            at = OneRow(segment, reader.read(segment))
            (item,) = hooks.rows(at.rows, index)
    finally:
        objects.close()
    if isinstance(item, RawRow):
        item = hooks.before(item)
    if isinstance(item, RowFailure):
        raise ConfigError(f"row {index} cannot be run: {item.message}")
    return at, item


def settings_of(store: Store, description: Mapping[str, Any]) -> RunSettings:
    """What the run was started with, from its own description."""
    results: Mapping[str, Any] = description["results"]
    if results.get("adapter_digest") is not None:
        raise ConfigError("a run with an adapter cannot be replayed")
    model = str(description["model"])
    if (found := digest(find_checkpoint(model).directory)) != results["model_digest"]:
        raise ConfigError(f"{model} is not what the run used: its digest is {found}, not {results['model_digest']}")
    names = (
        "seed",
        "input_resolution",
        "image_to_image_resolution",
        "tokenize_resolution",
        "random_crop",
        "match_question",
        "image_format",
        "image_quality",
    )
    return RunSettings(
        model=model,
        device=results["device"],
        dtype=results["dtype"],
        defaults=TypeAdapter(RowDefaults).validate_python(results["defaults"]),
        hooks=_hooks(results),
        output_uri=store.uri,
        engine=EngineConfig(batch_invariance=results["batch_invariance"]),
        **{name: results[name] for name in names if name in results},
    )


def _hooks(results: Mapping[str, Any]) -> HookSettings:
    """The hooks that the run called.

    Raises:
        ConfigError: One is no longer what it was.
    """
    found = results.get("hooks")
    if found is None:
        return HookSettings()
    for name, digest_then in found["digests"].items():
        if hook_digest(name) != digest_then:
            raise ConfigError(f"hook {name!r} is not what the run used: its file has changed")
    return HookSettings(
        rows=tuple(found["rows"]),
        results=tuple(found["results"]),
        scores=found["scores"],
        min_scores=found["min_scores"],
    )
