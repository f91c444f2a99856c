"""One start of a run: check everything, find what is left to do, do it, conclude."""

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dimoo_core.checkpoint.locate import BUILTIN, Checkpoint, find_checkpoint
from dimoo_core.settings import DtypeName
from jobs.progress.state import ProgressState
from jobs.run.execution import Execution, Start
from jobs.run.identity import (
    check_version,
    results_without_description,
    run_settings,
    segment_rows_of,
    way_of_working,
    what_decides_results,
)
from jobs.run.resources import with_memory, with_recorded_dtype
from jobs.run.resume import ResumeOptions, output_of_new_run, outputs_beside
from jobs.run.summary import RunSummary
from jobs.run.workers import Workers, find_workers, idle_workers, local_workers
from jobs.spec.resolve import check_model, with_found_adapter, with_generation_defaults
from jobs.spec.spec import JobSpec
from jobs.text import pluralize
from manifests.files.plan import ShardPlan
from manifests.redact import redact_uri
from pipeline.driver.failure_limits import FailureLimit
from pipeline.errors import RunFailed
from pipeline.manifest import ManifestSource, open_manifest
from pipeline.output.directory import RunDirectory, results_digest
from pipeline.output.parts import CommittedSegments, PartName
from pipeline.output.results import RunTotals
from pipeline.protocol.settings import ResultSettings, RunSettings
from pipeline.protocol.shutdown import ShutdownRequest
from pipeline.rows.hooks import check_hooks
from pipeline.storage.reader import open_store

log = logging.getLogger("dimoo_batch.jobs")

_BUILTIN_HINT = (
    "model builtin: the small embedded model, which draws and describes coloured shapes only; for anything else give "
    "--model Alpha-VLLM/Lumina-DiMOO"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setup:
    """What a start of a run has found before it begins to work."""

    spec: JobSpec
    source: ManifestSource
    run: RunDirectory
    checkpoint: Checkpoint
    workers: Workers
    settings: RunSettings
    has_ended: bool


def run_job(
    spec: JobSpec,
    options: ResumeOptions | None = None,
    shutdown: ShutdownRequest | None = None,
) -> RunSummary:
    """Run a job to its end, or resume it where an earlier start ended.

    Args:
        spec: What to run.
        options: What may have changed since the run was started; None: nothing.
        shutdown: Ends the run early, gracefully, if it is requested while workers are at work.

    Raises:
        ConfigError, ManifestError, WeightsError: Something asked for is wrong; nothing was run.
        StoreError: The manifest or the output cannot be reached.
        RunInUse: Another driver is at work on the same output.
        RunStopped: It was asked to shut down; the same command resumes.
        RunFailed: The run broke off; the same command resumes.
    """
    options = options or ResumeOptions()
    FailureLimit.of(spec.failures.max_failures)
    with ExitStack() as stack:
        start = Start(stack, shutdown)
        setup = _begin(spec, options, stack)
        store = setup.run.store
        epoch = start.claim(store)
        plan, run_digest, settings_digest = _plan(setup, options)
        settings = replace(
            setup.settings,
            output_uri=store.uri,
            epoch=epoch.number,
            run_digest=run_digest,
            settings_digest=settings_digest,
        )
        return _work(start, replace(setup, settings=settings), plan)


def _begin(spec: JobSpec, options: ResumeOptions, stack: ExitStack) -> _Setup:
    """Find manifest, output, model and workers, and make sure that they go together."""
    source = open_manifest(spec.manifest, defaults=spec.early_defaults(), passthrough=spec.passthrough)
    check_hooks(spec.hooks, source.passing_columns)
    rows, files = pluralize(source.num_rows, "row"), pluralize(len(source.files), "file")
    log.info(f"manifest {redact_uri(spec.manifest)}: {rows} in {files}")
    store = open_store(spec.output_uri)
    store.check_writable()
    run = RunDirectory(store)
    if not options.is_new_run and (before := run.description()) is not None:
        check_version(before, store.uri)
    checkpoint = find_checkpoint(spec.model)
    spec = with_found_adapter(with_generation_defaults(spec, checkpoint.directory))
    if checkpoint.name == BUILTIN:
        log.info(_BUILTIN_HINT)
    if options.is_new_run:
        device = _device_of_finished_new_run(spec, store.uri, source, checkpoint)
    else:
        device = _device_of_finished_run(run, source)
    found = check_model(checkpoint.directory, spec.adapter) if device is None else None
    local = local_workers(spec) if device is None else idle_workers(spec, device)
    workers = local or find_workers(spec, stack)
    settings = _settings(spec, workers, checkpoint, store.uri)
    if options.is_new_run:
        store = open_store(_output_of_new_run(spec, workers, source, checkpoint, settings))
        store.check_writable()
        log.info(f"output of this run: {store.uri}")
        run = RunDirectory(store)
    settings = with_recorded_dtype(settings, spec, run)
    if found is not None:
        settings = with_memory(settings, spec, found, source, local, is_begun=run.description() is not None)
    if device is None and local is not None:
        workers = find_workers(spec, stack)
        settings = replace(settings, results=replace(settings.results, device=workers.device))
    return _Setup(
        spec=spec,
        source=source,
        run=run,
        checkpoint=checkpoint,
        workers=workers,
        settings=settings,
        has_ended=device is not None,
    )


def _work(start: Start, setup: _Setup, plan: ShardPlan) -> RunSummary:
    """Do what is left to do, and conclude."""
    run = setup.run
    committed, failures = run.committed_segments(plan), Counter[str]()
    if strange := run.strange_parts(committed):
        log.info(strange)
    resumed = run.totals(committed, lambda _, summary: failures.update(each.failure_class for each in summary.failures))
    num_resumed = resumed.num_done + resumed.num_failed
    if committed:
        left = "" if committed.num_missing else ", nothing left to run"
        log.info(f"resuming {run.store.uri}: {num_resumed} of {plan.num_rows} rows committed{left}")
    state = ProgressState(
        num_rows=plan.num_rows,
        num_resumed=num_resumed,
        num_resumed_failed=resumed.num_failed,
        num_workers=max(1, setup.workers.count),
        worker_hour_usd=setup.spec.worker_hour_usd,
    )
    if committed.num_missing and setup.has_ended:
        raise RunFailed(f"{pluralize(committed.num_missing, 'part')} disappeared from {run.store.uri} since the start")
    execution = Execution(
        start=start,
        settings=setup.settings,
        workers=setup.workers,
        state=state,
        repeats=setup.source.repeated_ids() if committed.num_missing else {},
    )
    outcome = execution.run(committed)
    start.epoch.fence.check()
    in_the_end = run.committed_segments(plan) if committed.num_missing else committed
    totals = conclude(run, in_the_end, resumed + outcome.totals)
    return execution.summary(
        totals,
        failures + state.failures,
        num_rows=plan.num_rows,
        num_resumed=num_resumed,
        num_workers_lost=outcome.num_workers_lost,
    )


def _device_of_finished_run(run: RunDirectory, source: ManifestSource) -> str | None:
    """The device of a run of this manifest that has every segment; None if something is left, or is not as it was."""
    results: Mapping[str, Any] = (run.description() or {}).get("results", {})
    segment_rows, device = results.get("segment_rows"), results.get("device")
    if results.get("manifest_fingerprint") != source.fingerprint or not segment_rows or not isinstance(device, str):
        return None
    plan = source.plan(segment_rows=segment_rows, limit=results.get("limit"))
    last = plan.segment(plan.num_segments - 1) if plan.num_segments else None
    if last is not None and run.store.size(PartName(last.name).key) is None:  # spares most starts the list of all parts
        return None
    return None if run.committed_segments(plan).num_missing else device


def _device_of_finished_new_run(
    spec: JobSpec, output_uri: str, source: ManifestSource, checkpoint: Checkpoint
) -> str | None:
    """The same of the run, at the output or beside it, that an earlier command of a new run has made and ended."""
    for uri in outputs_beside(output_uri):
        with closing(open_store(uri)) as store:
            run = RunDirectory(store)
            if run.description() is None and not run.has_parts():
                return None
            device = _device_of_finished_run(run, source)
        if device is not None:
            workers = idle_workers(spec, device)
            settings = _settings(spec, workers, checkpoint, output_uri)
            if _output_of_new_run(spec, workers, source, checkpoint, settings) == uri:
                return device
    return None


def _output_of_new_run(
    spec: JobSpec, workers: Workers, source: ManifestSource, checkpoint: Checkpoint, settings: RunSettings
) -> str:
    segment_rows = spec.pipeline.segment_rows or segment_rows_of(source.num_rows_of(spec.limit), workers.count, None)
    results = what_decides_results(spec, source, checkpoint, settings.results, segment_rows)
    as_found = ("segment_rows", "dtype") if spec.dtype == "auto" else ("segment_rows",)
    return output_of_new_run(settings.output_uri, results, as_found)


def _settings(spec: JobSpec, workers: Workers, checkpoint: Checkpoint, output_uri: str) -> RunSettings:
    dtype: DtypeName = "bfloat16" if workers.device.startswith("cuda") else "float32"
    results = ResultSettings(
        device=workers.device,
        dtype=dtype if spec.dtype == "auto" else spec.dtype,
        seed=spec.seed,
        defaults=spec.row_defaults(),
        image_to_image=spec.image_to_image.crop(),
        understanding=spec.understanding.input(),
        tokenize=spec.tokenize,
        image=spec.image,
        batch_invariance=spec.engine.batch_invariance,
        compile=spec.engine.compile,
        hooks=spec.hooks,
    )
    return run_settings(spec, results, checkpoint.name, output_uri)


def _plan(setup: _Setup, options: ResumeOptions) -> tuple[ShardPlan, str, str]:
    """Cut the manifest as the first start did, having made sure that this start wants the same results.

    Returns:
        The plan, the digest of what decided the results when the run was started, and that of what decides them now.
    """
    spec, source, run = setup.spec, setup.source, setup.run
    num_rows, before = source.num_rows_of(spec.limit), run.description()
    segment_rows = spec.pipeline.segment_rows or segment_rows_of(num_rows, setup.workers.count, before)
    results = what_decides_results(spec, source, setup.checkpoint, setup.settings.results, segment_rows)
    if before is None and (lost := results_without_description(run, results)) is not None:
        results, segment_rows = lost, lost["segment_rows"]
        log.info(f"{run.store.uri} has no run.json; its parts match this run, so run.json is written again")
    description = {
        "results": results,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "manifest": redact_uri(spec.manifest),
        "model": setup.checkpoint.name,
        "rows": num_rows,
        "job": way_of_working(spec),
    }
    found = run.start(description)
    options.accept(results, num_rows, found, run)
    plan = source.plan(segment_rows=segment_rows, limit=spec.limit)
    return plan, results_digest(found["results"]), results_digest(results)


def conclude(run: RunDirectory, committed: CommittedSegments, totals: RunTotals) -> RunTotals:
    """Make sure that every segment is committed and every row counted, then write ``_SUCCESS``."""
    counted, num_rows = totals.num_done + totals.num_failed, committed.plan.num_rows
    if committed.num_missing or counted != num_rows:
        raise RunFailed(
            f"{committed.num_missing} segments are missing at the end, {counted} of {num_rows} rows are "
            "accounted for: re-run the same command"
        )
    run.succeed(totals)
    return totals
