"""One start of a retry: find the failed rows of a run, run them again as the run did, conclude."""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dimoo_core.checkpoint.locate import find_checkpoint
from dimoo_core.errors import ConfigError
from jobs.progress.state import ProgressState
from jobs.run.execution import Execution, Start
from jobs.run.identity import check_adapter, check_version, run_settings, what_decides_results
from jobs.run.resources import with_memory
from jobs.run.resume import ResumeOptions
from jobs.run.retry_plan import Backlog, RetryOptions, chosen_classes
from jobs.run.summary import RetrySummary
from jobs.run.workers import Workers, find_workers, idle_workers, local_workers
from jobs.spec.resolve import check_model
from jobs.spec.result_keys import settings_from
from jobs.spec.spec import JobSpec
from manifests.errors import FailureClass
from manifests.files.plan import ShardPlan
from pipeline.driver.coordinator import CoordinatorReport
from pipeline.driver.failure_limits import FailureLimit
from pipeline.errors import RunFailed
from pipeline.manifest import ManifestSource, open_manifest, open_unchecked_manifest
from pipeline.output.directory import RunDirectory, results_digest
from pipeline.output.results import RunTotals
from pipeline.output.retries import RetryRecords, RunRetry
from pipeline.protocol.settings import ResultSettings, RunSettings
from pipeline.protocol.shutdown import ShutdownRequest
from pipeline.storage.reader import open_store

log = logging.getLogger("dimoo_batch.jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Retry:
    """What the steps of a retry share."""

    spec: JobSpec
    source: ManifestSource
    plan: ShardPlan
    run: RunDirectory
    settings: RunSettings


def retry_job(
    output: str,
    options: RetryOptions,
    shutdown: ShutdownRequest | None = None,
    drain: Callable[[float], None] = lambda deadline_s: None,
) -> RetrySummary:
    """Run failed rows of a run again, or resume a retry that was interrupted.

    Args:
        output: Of the run.
        options: What is asked for.
        shutdown: Ends the retry early, gracefully, if it is requested while workers are at work.
        drain: Called with how long a graceful shutdown may take, as soon as that is known.

    Raises:
        NotARun: No run is there.
        ConfigError, ManifestError, WeightsError: Something is not as the run had it; nothing was run.
        StoreError: The manifest or the output cannot be reached.
        RunInUse: A driver is at work on the output.
        RunStopped: It was asked to shut down; the same command resumes.
        RunFailed: The retry broke off; the same command resumes.
    """
    classes = chosen_classes(options.classes)
    with ExitStack() as stack:
        start = Start(stack, shutdown)
        store = open_store(output)
        run = RunDirectory(store)
        description = run.known_description()
        check_version(description, store.uri)
        check_adapter(description, store.uri)
        spec = options.job_spec(description)
        FailureLimit.of(spec.failures.max_failures)
        drain(spec.worker_life.stop_deadline_s)
        checkpoint = find_checkpoint(spec.model)
        results = description["results"]
        settings = run_settings(spec, settings_from(results), checkpoint.name, store.uri)
        source = _manifest(spec, settings.results, results)
        store.check_writable()
        if spec.device != "auto":
            _check_device(spec.device, settings.results.device)
        now = what_decides_results(spec, source, checkpoint, settings.results, results["segment_rows"])
        may_differ = ResumeOptions(accepted=options.accepted, is_retry=True)
        may_differ.accept(now, source.num_rows_of(spec.limit), description, run)
        epoch = start.claim(store)
        settings = replace(
            settings, epoch=epoch.number, run_digest=results_digest(results), settings_digest=results_digest(now)
        )
        retry = _Retry(
            spec=spec,
            source=source,
            plan=source.plan(segment_rows=results["segment_rows"], limit=results.get("limit")),
            run=run,
            settings=settings,
        )
        return _run_again(start, retry, classes)


def _run_again(start: Start, retry: _Retry, classes: tuple[FailureClass, ...]) -> RetrySummary:
    """Find the failed rows, run them, and conclude."""
    run, plan, records = retry.run, retry.plan, RetryRecords(retry.run.store)
    latest, now = records.latest(), datetime.now(UTC).isoformat(timespec="seconds")
    is_resumed = latest is not None and not latest.has_ended and latest.classes == classes
    number = latest.number + 1 if latest else 1
    record = latest if latest and is_resumed else RunRetry(number=number, classes=classes, started_at=now)
    committed = run.committed_segments(plan)
    if strange := run.strange_parts(committed):
        log.info(strange)
    backlog = Backlog(record.number, classes, committed)
    before = run.totals(committed, backlog.look)
    log.info(backlog.words() if not is_resumed else f"resuming: {backlog.words()}")
    workers, settings = _workers(retry, backlog, start.stack)
    state = ProgressState(
        num_rows=backlog.chosen.total(),
        num_resumed=0,
        num_resumed_failed=0,
        num_workers=max(1, workers.count),
        worker_hour_usd=retry.spec.worker_hour_usd,
    )
    execution = Execution(
        start=start,
        settings=settings,
        workers=workers,
        state=state,
        repeats=retry.source.repeated_ids() if backlog.retries else {},
    )
    outcome = CoordinatorReport(RunTotals(), 0)
    if backlog.retries:
        records.begin(record)
        run.reopen()
        outcome = execution.run(committed, backlog)
        start.epoch.fence.check()
        _check_all_tried(run, plan, backlog, outcome.totals)
    totals = RunTotals(before.num_done + outcome.totals.num_done, before.num_failed - outcome.totals.num_done)
    has_worked = bool(backlog.retries) or is_resumed
    if not committed.num_missing and (has_worked or run.totals_at_end() != totals):
        run.succeed(totals)
    if has_worked:
        records.end(record)
    summary = execution.summary(
        totals,
        backlog.kept + backlog.failed_again + state.failures,
        num_rows=plan.num_rows,
        num_resumed=before.num_done + before.num_failed,
        num_workers_lost=outcome.num_workers_lost,
    )
    return RetrySummary(
        run=summary,
        retry=record.number if has_worked else 0,
        classes=classes,
        retried=backlog.chosen.total(),
        mended=outcome.totals.num_done,
        kept=dict(backlog.kept),
        left=plan.num_rows - totals.num_done - totals.num_failed,
    )


def _workers(retry: _Retry, backlog: Backlog, stack: ExitStack) -> tuple[Workers, RunSettings]:
    """Who runs the rows, and with which settings, once it is known that the model fits."""
    spec, settings = retry.spec, retry.settings
    if not backlog.retries:
        return idle_workers(spec, settings.results.device), settings
    found = check_model(find_checkpoint(settings.model).directory, settings.adapter)
    settings = with_memory(settings, spec, found, retry.source, local_workers(spec), is_begun=True)
    workers = find_workers(spec, stack)
    _check_device(workers.device, settings.results.device)
    return workers, replace(settings, results=replace(settings.results, device=workers.device))


def _check_all_tried(run: RunDirectory, plan: ShardPlan, backlog: Backlog, totals: RunTotals) -> None:
    """Every row has its new result, in a part that follows the one it had failed in."""
    committed = run.committed_segments(plan)
    missing = [name for name, each in backlog.retries.items() if committed.last_part(name).retry <= each.after]
    num_counted = totals.num_done + totals.num_failed
    if missing or num_counted != backlog.chosen.total():
        raise RunFailed(
            f"{len(missing)} segments were not retried at the end, {num_counted} of {backlog.chosen.total()} "
            "rows are accounted for: re-run the same command"
        )


def _manifest(spec: JobSpec, settings: ResultSettings, results: Mapping[str, Any]) -> ManifestSource:
    """The run's manifest; one that has changed is checked like that of a new run."""
    source = open_unchecked_manifest(spec.manifest)
    if source.fingerprint == results["manifest_fingerprint"]:
        return source
    return open_manifest(spec.manifest, defaults=settings.defaults, passthrough=spec.passthrough)


def _check_device(device: str, recorded: str) -> None:
    if device.partition(":")[0] != recorded:
        raise ConfigError(
            f"the run used {recorded}, this retry would use {device}: retry it on a machine with {recorded}"
        )
