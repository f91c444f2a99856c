"""A run as its output describes it, and one row of its manifest: what a replay starts from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dimoo_core.checkpoint.locate import digest, find_checkpoint
from dimoo_core.errors import ConfigError
from jobs.run.recorded import recorded_settings
from manifests.errors import RowFailure
from manifests.files.parquet import ParquetReader
from manifests.files.plan import Segment
from manifests.files.reader import SegmentReader
from manifests.row.parse import Row
from pipeline.manifest import ManifestSource
from pipeline.output.parts import PARTS_PREFIX, parts_by_segment
from pipeline.protocol.settings import RunSettings
from pipeline.rows.row_hooks import RawRow, RowHooks
from pipeline.storage.base import Store
from pipeline.storage.reader import ObjectReader


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
    settings = recorded_settings(description, store.uri)
    if (found := digest(find_checkpoint(settings.model).directory)) != results["model_digest"]:
        raise ConfigError(
            f"{settings.model} is not what the run used: its digest is {found}, not {results['model_digest']}"
        )
    return settings
