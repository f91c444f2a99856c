"""One start of a retry: find the failed rows of a run, run them again as the run did, conclude."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dimoo_core.checkpoint.locate import Checkpoint, find_checkpoint
from dimoo_core.errors import ConfigError
from jobs.progress.metrics import MetricsExport
from jobs.progress.monitor import watched_work
from jobs.progress.state import ProgressState
from jobs.run.identity import settings_of_work, what_decides_results
from jobs.run.recorded import recorded_settings
from jobs.run.resources import with_memory
from jobs.run.resume import ResumeOptions, words_of_changes
from jobs.run.retry_plan import Backlog, RetryOptions, chosen_classes
from jobs.run.summary import RetrySummary, RunSummary
from jobs.run.workers import Workers, find_workers, idle_workers, local_workers, worker_pool
from jobs.spec.resolve import check_model
from jobs.spec.spec import JobSpec
from manifests.files.plan import ShardPlan
from pipeline.driver.coordinator import CoordinatorReport
from pipeline.driver.leases import LeaseBook
from pipeline.driver.watchdog import WorkerWatch
from pipeline.errors import NotARun, RunFailed
from pipeline.manifest import ManifestSource, open_manifest, open_unchecked_manifest
from pipeline.output.directory import RunDirectory, results_digest
from pipeline.output.epoch import RunEpoch, claimed_epoch
from pipeline.output.partials import names_with_partials
from pipeline.output.poison_segments import CrashHistory, PoisonRecord
from pipeline.output.results import RunTotals
from pipeline.output.retries import RetryRecords, RunRetry
from pipeline.protocol.settings import RunSettings
from pipeline.protocol.shutdown import ShutdownRequest
from pipeline.storage.reader import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class _Retry:
    """What the steps of a retry share."""

    spec: JobSpec
    source: ManifestSource
    plan: ShardPlan
    run: RunDirectory
    settings: RunSettings
    say: Callable[[str], None]
    shutdown: ShutdownRequest | None
    stack: ExitStack


def retry_job(
    output: str,
    options: RetryOptions,
    say: Callable[[str], None],
    shutdown: ShutdownRequest | None = None,
    drain: Callable[[float], None] = lambda deadline_s: None,
) -> RetrySummary:
    """Run failed rows of a run again, or go on with a retry that was interrupted.

    Args:
        output: Of the run.
        choice: What is asked for.
        say: Told in a line what is run again and what is not.
        notice: Ends the retry early, in good order, if it is given while workers are at work.
        drain: Told how long a good order may take, as soon as that is known.

    Raises:
        NotARun: No run lies there.
        ConfigError, ManifestError, WeightsError: Something is not as the run had it; nothing was run.
        StoreError: The manifest or the output cannot be reached.
        RunInUse: A driver is at work on the output.
        RunStopped: The notice was given; the same command goes on.
        RunFailed: The retry broke off; the same command goes on.
    """
    started_s, classes = time.monotonic(), chosen_classes(options.classes)
    store = open_store(output)
    run = RunDirectory(store)
    description = run.description()
    if description is None:
        raise NotARun(f"{store.uri} is not the output of a run: it has no run.json")
    spec = options.job_spec(description)
    drain(spec.worker_life.stop_deadline_s)
    with ExitStack() as stack:
        checkpoint = find_checkpoint(spec.model)
        settings = replace(recorded_settings(description, store.uri), model=checkpoint.name)
        source = _manifest(spec, settings, description["results"])
        store.check_writable()
        settings = _with_work(settings, spec, description["results"])
        now = _check_unchanged(spec, source, checkpoint, settings, description, run, options, say)
        epoch = stack.enter_context(claimed_epoch(store, say))
        store.give_up_unfinished()
        results = description["results"]
        settings = replace(
            settings, epoch=epoch.number, run_digest=results_digest(results), settings_digest=results_digest(now)
        )
        plan = source.plan(segment_rows=results["segment_rows"], limit=results.get("limit"))
        retry = _Retry(
            spec=spec, source=source, plan=plan, run=run, settings=settings, say=say, shutdown=shutdown, stack=stack
        )
        return _run_again(retry, epoch, classes, started_s)


def _run_again(retry: _Retry, epoch: RunEpoch, classes: tuple[Any, ...], started_s: float) -> RetrySummary:
    run, records = retry.run, RetryRecords(retry.run.store)
    latest, now = records.latest(), datetime.now(UTC).isoformat(timespec="seconds")
    is_resumed = latest is not None and not latest.has_ended and latest.classes == classes
    record = (
        latest if is_resumed else RunRetry(number=latest.number + 1 if latest else 1, classes=classes, started_at=now)
    )
    assert record is not None
    committed = run.committed_segments(retry.plan)
    if strange := run.strange_parts(committed):
        retry.say(strange)
    backlog = Backlog(record.number, classes, committed)
    before = run.totals(committed, backlog.look)
    retry.say(backlog.words() if not is_resumed else f"going on: {backlog.words()}")
    num_rows = backlog.chosen.total()
    if backlog.retries:
        found = check_model(find_checkpoint(retry.settings.model).directory, retry.settings.adapter)
        local, say = local_workers(retry.spec), retry.say
        settings = with_memory(retry.settings, retry.spec, found, retry.source, local, say, is_begun=True)
        retry = replace(retry, settings=settings)
    workers = _workers(retry) if backlog.retries else idle_workers(retry.spec, retry.settings.device)
    state = ProgressState(
        num_rows=num_rows,
        num_resumed=0,
        num_resumed_failed=0,
        num_workers=max(1, workers.count),
        worker_hour_usd=retry.spec.worker_hour_usd,
    )
    report = CoordinatorReport(RunTotals(), 0)
    if backlog.retries:
        records.begin(record)
        run.reopen()
        report = _work(retry, workers, epoch, backlog, state)
        epoch.fence.check()
        _check_all_tried(run, retry.plan, backlog, report.totals)
    totals = RunTotals(before.num_done + report.totals.num_done, before.num_failed - report.totals.num_done)
    if not committed.num_missing and (backlog.retries or is_resumed or run.totals_at_end() != totals):
        run.succeed(totals)
    if backlog.retries or is_resumed:
        records.end(record)
    summary = RunSummary.of(
        state,
        run.store.uri,
        totals,
        failures=backlog.kept + backlog.failed_again + state.failures,
        num_rows=retry.plan.num_rows,
        num_resumed=before.num_done + before.num_failed,
        num_workers_lost=report.num_workers_lost,
        wall_s=time.monotonic() - started_s,
    )
    return RetrySummary(
        run=summary,
        retry=record.number if backlog.retries or is_resumed else 0,
        classes=classes,
        retried=num_rows,
        mended=report.totals.num_done,
        kept=dict(backlog.kept),
        left=retry.plan.num_rows - totals.num_done - totals.num_failed,
    )


def _workers(retry: _Retry) -> Workers:
    workers = find_workers(retry.spec, retry.stack, retry.say)
    _check_device(workers.device, retry.settings.device)
    return workers


def _work(
    retry: _Retry, workers: Workers, epoch: RunEpoch, backlog: Backlog, state: ProgressState
) -> CoordinatorReport:
    record = PoisonRecord(retry.run.store)
    poison_segments = record.resume(backlog)
    for name in backlog.isolated_segments:
        poison_segments.setdefault(name, CrashHistory())
    segments = (
        retry.plan.segment(number) for name in backlog.retries if (number := retry.plan.number_of(name)) is not None
    )
    partials = names_with_partials(retry.run.store, backlog.committed)
    book = LeaseBook(
        segments,
        repeats=retry.source.repeated_ids(),
        poison_segments=poison_segments,
        retries=backlog.retries,
        partials=partials,
        num_ahead=len(backlog.retries),
    )
    has_poison_segments = any(name in backlog.retries for name in poison_segments)
    exports = [MetricsExport(retry.run.store.uri, state)] if workers.count else []
    pool = worker_pool(
        replace(retry.settings, device=workers.device), workers, record, has_poison_segments=has_poison_segments
    )
    limit, watch = retry.spec.failures.limit(), WorkerWatch(retry.settings.life)
    rows_ahead = retry.settings.max_rows_in_flight
    return watched_work(
        pool,
        book,
        state,
        epoch,
        limit,
        exports,
        record,
        retry.shutdown,
        watch,
        read_image=retry.run.store.get,
        rows_ahead=rows_ahead,
        max_engine_streak=retry.spec.failures.max_engine_streak,
    )


def _check_all_tried(run: RunDirectory, plan: ShardPlan, backlog: Backlog, totals: RunTotals) -> None:
    """Every row has its new outcome, in a part that follows the one it had failed in."""
    committed = run.committed_segments(plan)
    missing = [name for name, each in backlog.retries.items() if committed.last_part(name).retry <= each.after]
    num_counted = totals.num_done + totals.num_failed
    if missing or num_counted != backlog.chosen.total():
        raise RunFailed(
            f"{len(missing)} segments were not tried again at the end and {num_counted} of {backlog.chosen.total()} "
            "rows are accounted for: run the same command again"
        )


def _manifest(spec: JobSpec, settings: RunSettings, results: Mapping[str, Any]) -> ManifestSource:
    """The run's manifest; one that has changed is checked like that of a new run."""
    source = open_unchecked_manifest(spec.manifest)
    if source.fingerprint == results["manifest_fingerprint"]:
        return source
    return open_manifest(spec.manifest, defaults=settings.defaults, passthrough=spec.passthrough)


def _with_work(settings: RunSettings, spec: JobSpec, results: Mapping[str, Any]) -> RunSettings:
    """The settings with how rows are worked on; the device stays the run's until workers are found."""
    if spec.device != "auto":
        _check_device(spec.device, settings.device)
    work = settings_of_work(spec, batch_invariance=results["batch_invariance"], compile=results.get("compile", False))
    return replace(settings, **work)


def _check_device(device: str, recorded: str) -> None:
    if device.partition(":")[0] != recorded:
        raise ConfigError(
            f"the run was made on {recorded}, here it would be {device}: retry it where there is {recorded}"
        )


def _check_unchanged(
    spec: JobSpec,
    source: ManifestSource,
    checkpoint: Checkpoint,
    settings: RunSettings,
    description: Mapping[str, Any],
    run: RunDirectory,
    options: RetryOptions,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Manifest, model and versions are those of the run, or a person accepts that they are not; what decides now."""
    results = description["results"]
    now = what_decides_results(spec, source, checkpoint, settings, results["segment_rows"])
    num_rows = source.num_rows if spec.limit is None else min(spec.limit, source.num_rows)
    may_differ = ResumeOptions(accepted=options.accepted, is_retry=True)
    if accepted := may_differ.check(now, num_rows, description, run):
        told = words_of_changes(accepted, description.get("rows"), num_rows)
        say(f"going on although settings have changed: {told}")
        run.note_changes(description, accepted)
    return now
