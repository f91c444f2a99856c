"""The work of one start, of a run as of a retry: workers on leases, watched, shown, noted in the store and exported."""

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from jobs.progress.display import display_of
from jobs.progress.events import RunBegun, RunEnded, report
from jobs.progress.metrics import MetricsExport
from jobs.progress.monitor import OutputLog, RunNote
from jobs.progress.state import ProgressState
from jobs.run.retry_plan import Backlog
from jobs.run.summary import RunSummary
from jobs.run.workers import Workers, worker_pool
from jobs.text import pluralize
from pipeline.driver.coordinator import Coordinator, CoordinatorReport
from pipeline.driver.failure_limits import FailureLimit, StreakWatch
from pipeline.driver.leases import LeaseBook
from pipeline.driver.watchdog import WorkerWatch
from pipeline.output.epoch import RunEpoch, claimed_epoch
from pipeline.output.partials import names_with_partials
from pipeline.output.parts import CommittedSegments
from pipeline.output.poison_segments import CrashHistory, PoisonRecord
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import Event
from pipeline.protocol.settings import RunSettings
from pipeline.protocol.shutdown import ShutdownRequest
from pipeline.storage.base import Store

log = logging.getLogger("dimoo_batch.jobs")


class Start:
    """One start of a command, with its log: from ``claim`` on the output is its own, until ``stack`` is closed.

    ``shutdown`` ends the work early, if it is requested.
    """

    store: Store
    epoch: RunEpoch

    def __init__(self, stack: ExitStack, shutdown: ShutdownRequest | None) -> None:
        self.started_s = time.monotonic()
        self.stack = stack
        self.shutdown = shutdown
        self.output_log = stack.enter_context(OutputLog())

    def claim(self, store: Store) -> RunEpoch:
        """Begin an epoch of the output."""
        self.store = store
        self.epoch = self.stack.enter_context(claimed_epoch(store))
        self.output_log.open(store, self.epoch)
        store.give_up_unfinished()
        return self.epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Runs segments on workers; ``state`` counts what happens."""

    start: Start
    settings: RunSettings
    workers: Workers
    state: ProgressState
    repeats: Mapping[int, int]

    def run(self, committed: CommittedSegments, backlog: Backlog | None = None) -> CoordinatorReport:
        """Run every segment until it is committed; what earlier starts have left of committed ones is removed.

        With a ``backlog`` those are its segments, which are committed already.
        """
        store = self.start.store
        record = PoisonRecord(store)
        poison_segments = record.resume(committed if backlog is None else backlog)
        if backlog is not None:
            poison_segments = {name: found for name, found in poison_segments.items() if name in backlog.retries}
            for name in backlog.isolated_segments:
                poison_segments.setdefault(name, CrashHistory())
        elif poison_segments:
            log.info(
                f"The last start was killed with {pluralize(len(poison_segments), 'segment')} in flight. Their rows "
                "run last, one at a time, in case one crashes workers."
            )
        partials = names_with_partials(store, committed)
        num_segments = committed.num_missing if backlog is None else len(backlog.retries)
        if not num_segments:
            return CoordinatorReport(RunTotals(), 0)
        book = LeaseBook(
            committed.missing() if backlog is None else backlog.segments(),
            repeats=self.repeats,
            poison_segments=poison_segments,
            retries=None if backlog is None else backlog.retries,
            partials=partials,
            num_ahead=num_segments,
        )
        return self._watched(book, record, has_poison_segments=bool(poison_segments))

    def _watched(self, book: LeaseBook, record: PoisonRecord, *, has_poison_segments: bool) -> CoordinatorReport:
        settings, state, start, store = self.settings, self.state, self.start, self.start.store
        note, limit = RunNote(state, start.epoch.note), FailureLimit.of(settings.failures.max_failures)
        exports = [MetricsExport(store.uri, state)] if self.workers.count else []
        begun = RunBegun(
            output=store.uri,
            rows=state.num_rows,
            rows_committed=state.num_resumed,
            workers=self.workers.count,
        )
        report(begun)
        with display_of(state, store.get) as display:

            def listen(name: str, event: Event) -> None:
                report(event, name)
                state.take(name, event)
                display.refresh()
                if limit is not None:
                    limit.take(name, event)

            def check() -> None:
                start.epoch.check()
                if note.refresh():
                    start.output_log.write_if_due()
                    for export in exports:
                        export.refresh()
                if limit is not None:
                    limit.check(state.num_rows - state.num_resumed)

            coordinator = Coordinator(
                worker_pool(settings, self.workers, record, has_poison_segments=has_poison_segments),
                book,
                listen,
                check,
                record,
                start.shutdown,
                WorkerWatch(settings.life),
                StreakWatch(settings.failures.max_engine_streak),
                rows_ahead=settings.pipeline.max_rows_in_flight,
            )
            try:
                return coordinator.run()
            except BaseException as error:  # what a command prints with it
                error.add_note(f"{state.num_committed} of {state.num_rows} rows committed to {store.uri}.")
                raise
            finally:
                note.refresh(is_last=True)

    def summary(
        self, totals: RunTotals, failures: Mapping[str, int], *, num_rows: int, num_resumed: int, num_workers_lost: int
    ) -> RunSummary:
        """Report the end and sum up; all but ``num_workers_lost`` is of the whole output.

        Args:
            totals: With what this start has added.
            failures: Failed rows by their class.
            num_resumed: Rows that earlier starts had committed.
        """
        output, wall_s = self.start.store.uri, round(time.monotonic() - self.start.started_s, 3)
        report(RunEnded(output=output, done=totals.num_done, failed=totals.num_failed, wall_s=wall_s))
        return RunSummary(
            status="done" if totals.num_failed == 0 else "done_with_failures",
            output=output,
            rows=num_rows,
            done=totals.num_done,
            failed=totals.num_failed,
            failures=dict(sorted(failures.items())),
            resumed=num_resumed,
            wall_s=wall_s,
            rows_per_s=round(self.state.rows_per_s, 3),
            engine_busy_ratio=_rounded(self.state.engine_busy_ratio),
            engine_wait_ratio=_rounded(self.state.engine_wait_ratio),
            tokens=self.state.num_tokens,
            cache_hit_ratio=_rounded(self.state.cache_hit_ratio),
            cost_usd=_rounded(self.state.cost_usd),
            workers_lost=num_workers_lost,
        )


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
