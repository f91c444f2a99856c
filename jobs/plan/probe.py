"""Runs some rows of a manifest to see how large results are and how fast this machine is."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dimoo_core.errors import ConfigError
from jobs.plan.plan import RunPlan, plan_run
from jobs.plan.row_cost import ModelFacts
from jobs.run.run import run_job
from jobs.spec.spec import JobSpec
from manifests.columns import COLUMNS, IMAGE, IMAGES
from manifests.files.parquet import ParquetReader
from manifests.files.plan import Segment, ShardPlan
from manifests.row.settings import RowDefaults
from pipeline.manifest import open_manifest, segment_reader
from pipeline.output.epoch import read_epoch_reports
from pipeline.storage.reader import open_store
from pipeline.storage.uri import folder_of, resolve_uri


@dataclass(frozen=True, slots=True)
class Probe:
    """What was measured; ``seconds`` is the time of the rows alone, without loading the model.

    ``flops_per_s`` is the FLOPs per second, everything around it included; without the first steps, which are slow,
    where the probe was long enough.
    """

    rows: int
    seconds: float
    flops: int
    flops_per_s: float


def probe_plan(plan: RunPlan, spec: JobSpec, defaults: RowDefaults, facts: ModelFacts, count: int) -> Probe:
    """Run ``count`` rows from all over the manifest in a temporary folder, and put what they weigh into the plan.

    Raises:
        ConfigError: There are too few rows, or all of the probed ones fail.
        ManifestError, StoreError, RunFailed: As a run.
    """
    if count < 2 or plan.rows < 2:
        raise ConfigError(f"--probe needs at least 2 rows, got {min(count, plan.rows)}")
    with tempfile.TemporaryDirectory(prefix="dimoo-probe-") as name:
        folder = Path(name)
        num_rows = _write_spread_rows(spec, defaults, folder / "probe.parquet", count)
        # All rows but one in the first part, one in the second: what a part weighs by itself follows.
        pipeline = replace(spec.pipeline, segment_rows=num_rows - 1)
        changes = {"manifest": str(folder / "probe.parquet"), "output": str(folder / "out"), "limit": None}
        small = spec.model_copy(update={**changes, "pipeline": pipeline})
        expected = plan_run(small, defaults, facts, num_workers=1, reads_remote=True)
        summary = run_job(small)
        if not summary.done or not summary.rows_per_s:
            raise ConfigError(f"all {num_rows} probed rows failed: see why with dimoo-batch run --limit N")
        _weigh(plan, folder / "out")
        seconds = num_rows / summary.rows_per_s
        steady = _steady_seconds(folder / "out") or seconds
    flops = expected.cost.flops
    return Probe(num_rows, seconds, flops, flops / steady)


def _steady_seconds(output: Path) -> float | None:
    """Time of the whole probe at its rate after its first noted steps; None if it was too short."""
    note = read_epoch_reports(open_store(str(output)))[-1].note
    points = [(at_s, tokens) for at_s, _, tokens, *_ in note.get("points", []) if tokens]
    if len(points) < 2:
        return None
    (first_s, first), (last_s, last) = points[0], points[-1]
    if last_s <= first_s or first > last / 2:
        return None
    return float((last_s - first_s) * last / (last - first))


def _write_spread_rows(spec: JobSpec, defaults: RowDefaults, path: Path, count: int) -> int:
    """Some rows of the manifest in a file of their own, images named in full."""
    source = open_manifest(spec.manifest, defaults=defaults, passthrough=spec.passthrough)
    plan = source.plan(segment_rows=1, limit=spec.limit)
    with segment_reader() as reader:
        tables = [_named_in_full(reader.read(segment), segment) for segment in _spread(plan, count)]
    pq.write_table(pa.concat_tables(tables, promote_options="permissive"), path)
    return len(tables)


def _spread(plan: ShardPlan, count: int) -> Iterator[Segment]:
    """A row of each of ``count`` stretches, anywhere in it: a fixed distance may fall in with a pattern of the rows."""
    count, place = min(count, plan.num_segments), Random(0)
    bounds = [number * plan.num_segments // count for number in range(count + 1)]
    return (plan.segment(place.randrange(low, high)) for low, high in pairwise(bounds))


def _named_in_full(table: pa.Table, segment: Segment) -> pa.Table:
    folder = folder_of(segment.file_uri)

    def full(uri: Any) -> Any:
        return resolve_uri(folder, uri) if isinstance(uri, str) else uri

    def cell(value: Any) -> Any:
        if isinstance(value, list):
            return [cell(each) for each in value]
        return {**value, "path": full(value["path"])} if isinstance(value, dict) else full(value)

    for index, field in enumerate(table.schema):
        if field.name in COLUMNS and COLUMNS[field.name].kind in (IMAGE, IMAGES):
            values = [cell(value) for value in table.column(index).to_pylist()]
            table = table.set_column(index, field, pa.array(values, type=field.type))
    return table


def _weigh(plan: RunPlan, output: Path) -> None:
    """Replace what the plan assumed about bytes by what was measured."""
    sizes: dict[tuple[str, str], list[int]] = {}
    parts: list[tuple[int, int]] = []
    for path in sorted((output / "parts").glob("*.parquet")):
        with path.open("rb") as file:
            table = ParquetReader(file).table()
        parts.append((table.num_rows, path.stat().st_size))
        for row in table.select(["task", "width", "height", "bytes"]).to_pylist():
            if row["bytes"] is not None:
                sizes.setdefault((row["task"], f"{row['width']}x{row['height']}"), []).append(row["bytes"])
    measured = {size: sum(found) / len(found) for size, found in sizes.items()}
    pixels = sum(int(size.split("x")[0]) * int(size.split("x")[1]) * len(sizes[task, size]) for task, size in sizes)
    per_pixel = sum(map(sum, sizes.values())) / pixels if pixels else 0.0
    for key, group in plan.groups.items():
        if group.images:
            group.image_bytes = group.images * measured[key] if key in measured else group.pixels * per_pixel
    (most, most_bytes), (least, least_bytes) = max(parts), min(parts)
    by_row = max(0.0, (most_bytes - least_bytes) / (most - least)) if most > least else 0.0
    plan.part_bytes = plan.segments * max(0.0, least_bytes - least * by_row) + (plan.rows - plan.invalid) * by_row
