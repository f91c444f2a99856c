"""A whole start of a run as the driver does it, with simulated workers and a store of bits."""

import resource
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.scale.bit_store import BitStore
from benchmarks.scale.simulated_pool import Fleet, SimulatedPool
from jobs.progress.state import ProgressState
from jobs.run.run import conclude
from manifests.files.duplicates import find_duplicate_ids
from manifests.files.plan import ManifestFile, Segment, ShardPlan, plan_shards
from pipeline.driver.coordinator import Coordinator
from pipeline.driver.leases import LeaseBook
from pipeline.manifest import SHARD_SEGMENTS
from pipeline.output.directory import RunDirectory
from pipeline.output.epoch import claimed_epoch
from pipeline.output.parts import PartName, SegmentSet
from pipeline.output.results import RunTotals

FILE_ROWS = 1_000_000
_ID_BATCH_ROWS = 65_536


def plan_of(num_rows: int, segment_rows: int) -> ShardPlan:
    """The plan of a manifest of files of a million rows."""
    sizes = [min(FILE_ROWS, num_rows - first) for first in range(0, num_rows, FILE_ROWS)]
    files = [
        ManifestFile(f"s3://manifest/{number:05d}.parquet", 1, size, "0" * 32) for number, size in enumerate(sizes)
    ]
    return plan_shards(files, shard_rows=segment_rows * SHARD_SEGMENTS, segment_rows=segment_rows)


def start_run(store: BitStore, plan: ShardPlan, fleet: Fleet) -> dict[str, Any]:
    """One start: claim, list, count, hand out until all is committed, conclude. Returns what it took."""
    run = RunDirectory(store)
    ended = SegmentSet(plan)

    def commit(segment: Segment) -> tuple[RunTotals, bool]:
        return run.commit(PartName(segment.name), *store.part_of(segment)).totals, ended.add(segment.name)

    pool = SimulatedPool(fleet, commit)
    cpu_s = time.process_time()
    with claimed_epoch(store) as epoch:
        committed = run.committed_segments(plan)
        resumed = run.totals(committed)
        resume_s = time.process_time() - cpu_s
        num_resumed = resumed.num_done + resumed.num_failed
        state = ProgressState(
            num_rows=plan.num_rows,
            num_resumed=num_resumed,
            num_workers=fleet.num_workers,
            num_resumed_failed=resumed.num_failed,
        )
        totals = resumed
        if committed.num_missing:
            book = LeaseBook(committed.missing(), clock=pool.clock)
            totals += Coordinator(pool, book, state.take, epoch.check).run().totals
        epoch.fence.check()
        totals = conclude(run, run.committed_segments(plan), totals)
    rows = plan.num_rows - num_resumed
    result = {
        "rows": plan.num_rows,
        "rows_resumed": num_resumed,
        "rows_failed": totals.num_failed,
        "segments": plan.num_segments,
        "resume_cpu_s": resume_s,
        "coordinator_cpu_s": pool.coordinator_s,
        "events": pool.num_events,
        "requests": dict(store.num_requests),
        "peak_memory_bytes": peak_memory_bytes(),
    }
    if rows:
        span_s = pool.last_commit_s - fleet.load_s
        result |= {
            "fleet": asdict(fleet),
            "rows_per_coordinator_cpu_s": rows / pool.coordinator_s,
            "span_s": span_s,
            "deaths": pool.num_deaths,
            "utilisation": pool.useful_s / (fleet.num_workers * span_s),
        }
    return result


def scan_ids(num_rows: int, folder: Path) -> float:
    """Processor seconds to make sure that so many ids are distinct, as before each run."""
    cpu_s = time.process_time()
    assert not find_duplicate_ids(_ids(num_rows), spill_dir=folder)
    return time.process_time() - cpu_s


def peak_memory_bytes() -> int:
    """The most memory that this process has had."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _ids(num_rows: int) -> Iterator[tuple[int, pa.Array]]:
    for first in range(0, num_rows, _ID_BATCH_ROWS):
        yield first, pa.array([f"row-{row:010d}" for row in range(first, min(num_rows, first + _ID_BATCH_ROWS))])
