"""The work of one start, of a run as of a retry: workers on leases, watched, shown, noted in the store and exported."""

import logging
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from jobs.progress.display import display_of
from jobs.progress.events import RunBegun, report
from jobs.progress.metrics import MetricsExport
from jobs.progress.monitor import OutputLog, RunNote
from jobs.progress.state import ProgressState
from jobs.run.workers import Workers, worker_pool
from jobs.text import pluralize
from manifests.files.plan import Segment
from pipeline.driver.coordinator import Coordinator, CoordinatorReport
from pipeline.driver.failure_limits import FailureLimit, StreakWatch
from pipeline.driver.leases import LeaseBook
from pipeline.driver.watchdog import WorkerWatch
from pipeline.output.epoch import RunEpoch
from pipeline.output.partials import names_with_partials
from pipeline.output.parts import CommittedSegments
from pipeline.output.poison_segments import CrashHistory, PoisonRecord
from pipeline.output.results import RunTotals
from pipeline.output.retries import SegmentRetry
from pipeline.protocol.messages import Event
from pipeline.protocol.settings import RunSettings
from pipeline.protocol.shutdown import ShutdownRequest
from pipeline.storage.base import Store

log = logging.getLogger("dimoo_batch.jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Runs segments on workers.

    Attributes:
        state: Counts what happens.
        shutdown: Ends the work early, if it is requested.
        output_log: Written to the output now and then.
    """

    store: Store
    settings: RunSettings
    workers: Workers
    epoch: RunEpoch
    state: ProgressState
    repeats: Mapping[int, int]
    shutdown: ShutdownRequest | None
    output_log: OutputLog

    def run(
        self,
        segments: Iterable[Segment],
        committed: CommittedSegments,
        num_segments: int,
        *,
        is_done: Container[str] | None = None,
        retries: Mapping[str, SegmentRetry] | None = None,
        isolated: Iterable[str] = (),
    ) -> CoordinatorReport:
        """Run every segment until it is committed; what earlier starts have left of committed ones is removed.

        Args:
            segments: In row order.
            committed: What the output holds.
            num_segments: How many there are to run, maybe none.
            is_done: Names of segments with nothing to do, if those are not the committed ones.
            retries: Which rows of committed segments are run again.
            isolated: Segments in which a row has killed its workers.
        """
        record = PoisonRecord(self.store)
        poison_segments = record.resume(committed if is_done is None else is_done)
        for name in isolated:
            poison_segments.setdefault(name, CrashHistory())
        if retries is not None:
            poison_segments = {name: history for name, history in poison_segments.items() if name in retries}
        elif poison_segments:
            log.info(
                f"The last start was killed with {pluralize(len(poison_segments), 'segment')} in flight. Their rows "
                "run last, one at a time, in case one crashes workers."
            )
        partials = names_with_partials(self.store, committed)
        if not num_segments:
            return CoordinatorReport(RunTotals(), 0)
        book = LeaseBook(
            segments,
            repeats=self.repeats,
            poison_segments=poison_segments,
            retries=retries,
            partials=partials,
            num_ahead=num_segments,
        )
        return self._watched(book, record, has_poison_segments=bool(poison_segments))

    def _watched(self, book: LeaseBook, record: PoisonRecord, *, has_poison_segments: bool) -> CoordinatorReport:
        settings, state = self.settings, self.state
        note, limit = RunNote(state, self.epoch.note), FailureLimit.of(settings.failures.max_failures)
        exports = [MetricsExport(self.store.uri, state)] if self.workers.count else []
        begun = RunBegun(
            output=self.store.uri,
            rows=state.num_rows,
            rows_committed=state.num_resumed,
            workers=self.workers.count,
        )
        report(begun)
        with display_of(state, self.store.get) as display:

            def listen(name: str, event: Event) -> None:
                report(event, name)
                state.take(name, event)
                display.refresh()
                if limit is not None:
                    limit.take(name, event)

            def check() -> None:
                self.epoch.check()
                if note.refresh():
                    self.output_log.write_if_due()
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
                self.shutdown,
                WorkerWatch(settings.life),
                StreakWatch(settings.failures.max_engine_streak),
                rows_ahead=settings.pipeline.max_rows_in_flight,
            )
            try:
                return coordinator.run()
            except BaseException as error:  # what a command prints with it
                error.add_note(f"{state.num_committed} of {state.num_rows} rows committed to {self.store.uri}.")
                raise
            finally:
                note.refresh(is_last=True)
