"""A run with real manifests, workers and stores in which only the model is missing."""

import io
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.scale.process_pool import ProcessPool
from jobs.progress.state import ProgressState
from jobs.run.run import conclude
from manifests.row.settings import RowDefaults
from pipeline.driver.coordinator import Coordinator
from pipeline.driver.leases import LeaseBook
from pipeline.manifest import open_manifest
from pipeline.output.directory import RunDirectory
from pipeline.output.epoch import claimed_epoch
from pipeline.protocol.messages import Event, WorkerReady
from pipeline.protocol.settings import ResultSettings, RunSettings, UnderstandingInput
from pipeline.storage.reader import open_store

Kind = Literal["texts", "images"]


def write_manifest(path: Path, kind: Kind, num_rows: int) -> None:
    """Rows with ids that ask a question about a small image, or for an image."""
    columns: dict[str, Any] = {"id": [f"row-{row:010d}" for row in range(num_rows)]}
    if kind == "texts":
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32)).save(buffer, format="PNG")
        columns |= {"task": ["vqa"] * num_rows, "prompt": ["How many boats are there?"] * num_rows}
        columns["image"] = pa.array([buffer.getvalue()] * num_rows, pa.binary())
    else:
        columns |= {"task": ["text_to_image"] * num_rows, "prompt": ["two boats at a pier"] * num_rows}
    pq.write_table(pa.table(columns), path, row_group_size=10_000)


def run_null(manifest: Path, output_uri: str, *, num_workers: int, segment_rows: int) -> dict[str, Any]:
    """Run a manifest to its end and say what each row took.

    Rows per second count from the moment at which the last worker is ready.
    """
    defaults = RowDefaults()
    source = open_manifest(str(manifest), defaults=defaults)
    plan = source.plan(segment_rows=segment_rows, limit=None)
    ready_s, done_s = [], []
    with closing(open_store(output_uri)) as store, claimed_epoch(store) as epoch:
        run = RunDirectory(store)
        settings = RunSettings(
            results=ResultSettings(device="cpu", dtype="float32", understanding=UnderstandingInput(resolution=32)),
            model="null",
            output_uri=output_uri,
            epoch=epoch.number,
        )
        pool = ProcessPool(settings, num_workers)
        state = ProgressState(num_rows=plan.num_rows, num_resumed=0, num_workers=num_workers, num_resumed_failed=0)

        def listen(name: str, event: Event) -> None:
            state.take(name, event)
            if isinstance(event, WorkerReady):
                ready_s.append(time.monotonic())
            if state.num_committed == plan.num_rows:
                done_s.append(time.monotonic())

        book = LeaseBook(run.committed_segments(plan).missing(), repeats=source.repeated_ids())
        cpu_s = time.process_time()
        report = Coordinator(pool, book, listen, epoch.check).run()
        cpu_s = time.process_time() - cpu_s
        conclude(run, run.committed_segments(plan), report.totals)
    span_s = done_s[0] - max(ready_s)
    return {
        "rows": plan.num_rows,
        "rows_failed": report.totals.num_failed,
        "rows_per_s": plan.num_rows / span_s,
        "span_s": span_s,
        "coordinator_cpu_us_a_row": 1e6 * cpu_s / plan.num_rows,
        "worker_cpu_us_a_row": pool.counts["cpu_us"] / plan.num_rows,
        "a_row": {name: count / plan.num_rows for name, count in sorted(pool.counts.items()) if name != "cpu_us"},
    }
