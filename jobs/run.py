"""One start of a run: check everything, find what is left to do, do it, conclude."""

import importlib.metadata
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dimoo_core.checkpoint import BUILTIN, Checkpoint, digest, find_checkpoint
from dimoo_core.engine_config import EngineConfig
from dimoo_core.errors import ConfigError
from dimoo_core.preset import PRESETS
from dimoo_core.settings import DtypeName
from jobs.adapter import with_found_adapter
from jobs.cluster import known_address, ray_cluster
from jobs.generation_defaults import with_generation_defaults
from jobs.metrics import MetricsExport
from jobs.progress import ProgressState
from jobs.spec import JobSpec
from jobs.summary import RunSummary
from jobs.watched_work import watched_work
from manifests.public_text import public_uri
from manifests.shard import ShardPlan
from pipeline.coordinator import CoordinatorReport
from pipeline.epoch import claimed_epoch
from pipeline.errors import RunFailed
from pipeline.lease import LeaseBook
from pipeline.manifest_source import ManifestSource, open_manifest
from pipeline.outcome import RunTotals
from pipeline.pool import WorkerPool
from pipeline.run_directory import RunDirectory, differences, results_digest
from pipeline.run_settings import RunSettings
from pipeline.store import open_store
from pipeline.suspect import SuspectRecord

_MAX_SEGMENT_ROWS = 64
_BUILTIN_HINT = (
    "model builtin: the small embedded model, which knows a world of coloured shapes and nothing else; for everything "
    "else give --model Alpha-VLLM/Lumina-DiMOO"
)
_SEGMENTS_PER_WORKER = 4  # of a small manifest, so that every worker gets some


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers there are and what each has."""

    count: int
    device: str
    num_cpus: float
    num_gpus: float


def run_job(spec: JobSpec, say: Callable[[str], None]) -> RunSummary:
    """Run a job to its end, or go on with it where an earlier start ended.

    Args:
        spec: What to run.
        say: Told in a line what was found before the work begins.

    Raises:
        ConfigError, ManifestError, WeightsError: Something asked for is wrong; nothing was run.
        StoreError: The manifest or the output cannot be reached.
        RunInUse: Another driver is at work on the same output.
        RunFailed: The run broke off; the same command resumes.
    """
    started_s, failure_limit = time.monotonic(), spec.failures.limit()
    source = open_manifest(spec.manifest, defaults=spec.early_defaults(), passthrough=spec.passthrough)
    say(f"manifest {public_uri(spec.manifest)}: {source.num_rows} rows in {len(source.files)} file(s)")
    store = open_store(spec.output_uri)
    store.check_writable()
    run = RunDirectory(store)
    with ExitStack() as stack:
        checkpoint = find_checkpoint(spec.model)
        spec = with_found_adapter(with_generation_defaults(spec, checkpoint.directory), checkpoint)
        if checkpoint.name == BUILTIN:
            say(_BUILTIN_HINT)
        workers = _workers(spec, stack)
        epoch = stack.enter_context(claimed_epoch(store, say))
        settings = _settings(spec, workers, checkpoint, store.uri, epoch.number)
        plan, run_digest = _plan(spec, workers, source, run, checkpoint, settings)
        settings = replace(settings, run_digest=run_digest)
        committed = run.committed_segments(plan)
        resumed = run.totals(committed)
        if committed:
            say(f"resuming {store.uri}: {resumed.num_done + resumed.num_failed} rows are committed")
        state = ProgressState(
            num_rows=plan.num_rows,
            num_resumed=resumed.num_done + resumed.num_failed,
            num_resumed_failed=resumed.num_failed,
            num_workers=max(1, workers.count),
        )
        report = CoordinatorReport(RunTotals(), 0)
        record = SuspectRecord(store)
        suspects = record.resume(committed)
        if committed.num_missing:
            if suspects:
                say(f"workers died with {len(suspects)} segment(s): their rows are run one at a time, after all others")
            book = LeaseBook(committed.missing(), repeats=source.repeated_ids(), suspects=suspects)
            exports = [MetricsExport(store.uri, state)] if workers.count else []
            pool = _pool(settings, workers, record, has_suspects=bool(suspects))
            report = watched_work(pool, book, state, epoch, failure_limit, exports, record)
        epoch.fence.check()
        totals = _conclude(run, plan, resumed + report.totals)
    wall_s = time.monotonic() - started_s
    return RunSummary(
        status="done" if totals.num_failed == 0 else "done_with_failures",
        output=store.uri,
        rows=plan.num_rows,
        done=totals.num_done,
        failed=totals.num_failed,
        resumed=resumed.num_done + resumed.num_failed,
        wall_s=round(wall_s, 3),
        rows_per_s=round(state.rows_per_s, 3),
        engine_busy_ratio=state.engine_busy_ratio and round(state.engine_busy_ratio, 4),
        tokens=state.num_tokens,
        workers_lost=report.num_workers_lost,
    )


def _workers(spec: JobSpec, stack: ExitStack) -> Workers:
    """Decide how many workers there are, starting or joining Ray if there is any."""
    count, address = spec.workers, known_address(spec.ray.address)
    if count is None and address is None:
        count = _local_gpus()
    if count == 0:
        device = spec.device if spec.device != "auto" else ("cuda" if _local_gpus() else "cpu")
        return Workers(0, device, 0, 0)
    num_gpus = stack.enter_context(ray_cluster(address, num_workers=count or 1))
    count = count or max(1, num_gpus)
    device = spec.device if spec.device != "auto" else ("cuda" if num_gpus else "cpu")
    gpus_each = spec.ray.gpus_per_worker if spec.ray.gpus_per_worker is not None else float(device.startswith("cuda"))
    if gpus_each * count > num_gpus:
        raise ConfigError(f"{count} workers with {gpus_each:g} GPU each were asked for, Ray has {num_gpus} GPUs")
    return Workers(count, device, spec.ray.cpus_per_worker or _cpus_each(count), gpus_each)


def _local_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _cpus_each(num_workers: int) -> float:
    import ray

    return float(max(1, int(ray.cluster_resources().get("CPU", 1)) // num_workers))


def _settings(spec: JobSpec, workers: Workers, checkpoint: Checkpoint, output_uri: str, epoch: int) -> RunSettings:
    dtype: DtypeName = "bfloat16" if workers.device.startswith("cuda") else "float32"
    if spec.dtype != "auto":
        dtype = spec.dtype
    return RunSettings(
        model=checkpoint.name,
        adapter=spec.adapter,
        device=workers.device,
        dtype=dtype,
        seed=spec.seed,
        defaults=spec.row_defaults(),
        input_resolution=spec.understanding.resolution,
        image_to_image_resolution=spec.image_to_image.resolution,
        tokenize_resolution=spec.tokenize.resolution,
        random_crop=spec.understanding.random_crop,
        image_format=spec.image.format,
        image_quality=spec.image.quality,
        sources=spec.sources.policy(),
        output_uri=output_uri,
        epoch=epoch,
        engine=EngineConfig(**dict(spec.engine), max_request_s=spec.failures.row_timeout_s),
        max_rows_in_flight=spec.pipeline.max_rows_in_flight,
        fetch_threads=spec.pipeline.fetch_threads,
        store_threads=spec.pipeline.store_threads,
        failures=spec.failures.policy(),
    )


def _plan(
    spec: JobSpec,
    workers: Workers,
    source: ManifestSource,
    run: RunDirectory,
    checkpoint: Checkpoint,
    settings: RunSettings,
) -> tuple[ShardPlan, str]:
    """Cut the manifest as the first start did, having made sure that this start wants the same results.

    Returns:
        The plan, and the digest of what decides the results.

    Raises:
        ConfigError: If another run lies at the output.
    """
    num_rows = source.num_rows if spec.limit is None else min(spec.limit, source.num_rows)
    before = run.description()
    if before is None and run.has_parts():
        raise ConfigError(f"{run.store.uri} holds parts of a run but no run.json: choose another --output")
    segment_rows = spec.pipeline.segment_rows or _segment_rows(num_rows, workers.count, before)
    results = _what_decides_results(spec, source, checkpoint, settings, segment_rows)
    description = {
        "results": results,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "manifest": public_uri(spec.manifest),
        "model": checkpoint.name,
        "rows": num_rows,
    }
    found = run.start(description)
    if changed := differences(results, found.get("results", {})):
        anew = "" if run.has_parts() else ", or delete its run.json, since it has committed nothing"
        raise ConfigError(
            f"{run.store.uri} holds a run with other settings ({'; '.join(changed)}): choose another --output, or "
            f"give the settings it was started with{anew}"
        )
    return source.plan(segment_rows=segment_rows, limit=spec.limit), results_digest(found["results"])


def _segment_rows(num_rows: int, num_workers: int, before: Mapping[str, Any] | None) -> int:
    """As in the first start; else small enough that every worker gets some segments."""
    if before is not None and isinstance(size := before.get("results", {}).get("segment_rows"), int):
        return size
    return max(1, min(_MAX_SEGMENT_ROWS, math.ceil(num_rows / (_SEGMENTS_PER_WORKER * max(1, num_workers)))))


def _what_decides_results(
    spec: JobSpec, source: ManifestSource, checkpoint: Checkpoint, settings: RunSettings, segment_rows: int
) -> dict[str, Any]:
    """Everything that a resume must not change, in JSON's types."""
    decides = {
        "manifest_fingerprint": source.fingerprint,
        "model_digest": digest(checkpoint.directory),
        "adapter_digest": digest(find_checkpoint(spec.adapter).directory) if spec.adapter is not None else None,
        "limit": spec.limit,
        "segment_rows": segment_rows,
        "seed": settings.seed,
        "device": settings.device.partition(":")[0],
        "dtype": settings.dtype,
        "defaults": asdict(settings.defaults),
        "presets": {name: asdict(preset) for name, preset in PRESETS.items()},
        "input_resolution": settings.input_resolution,
        "image_to_image_resolution": settings.image_to_image_resolution,
        "tokenize_resolution": settings.tokenize_resolution,
        "random_crop": settings.random_crop,
        "image_format": settings.image_format,
        "image_quality": settings.image_quality,
        "batch_invariance": settings.engine.batch_invariance,
        "versions": {
            name: importlib.metadata.version(name) for name in ("dimoo-batch", "torch", "diffusers", "pillow")
        },
    }
    in_json: dict[str, Any] = json.loads(json.dumps(decides))
    return in_json


def _pool(settings: RunSettings, workers: Workers, record: SuspectRecord, *, has_suspects: bool) -> WorkerPool:
    if workers.count == 0 and has_suspects:  # a row that kills its worker must not take the run with it once more
        from pipeline.child_pool import ChildPool

        return ChildPool(settings)
    if workers.count == 0:
        from pipeline.local_pool import LocalPool

        return LocalPool(settings, record)
    from pipeline.ray_pool import RayPool

    return RayPool(settings, num_workers=workers.count, num_cpus=workers.num_cpus, num_gpus=workers.num_gpus)


def _conclude(run: RunDirectory, plan: ShardPlan, totals: RunTotals) -> RunTotals:
    """Make sure that every segment is committed and every row counted, then write ``_SUCCESS``."""
    num_missing = run.committed_segments(plan).num_missing
    counted = totals.num_done + totals.num_failed
    if num_missing or counted != plan.num_rows:
        raise RunFailed(
            f"{num_missing} segments are missing at the end and {counted} of {plan.num_rows} rows are accounted for: "
            "run the same command again"
        )
    run.succeed(totals)
    return totals
