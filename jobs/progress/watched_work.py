"""The work of a run, watched: on the screen, in the store, by Prometheus."""

from collections.abc import Callable

from jobs.progress.display import display_of
from jobs.progress.metrics import MetricsExport
from jobs.progress.progress import ProgressState
from jobs.progress.run_note import RunNote
from pipeline.driver.coordinator import Coordinator, CoordinatorReport
from pipeline.driver.failure_limit import FailureLimit
from pipeline.driver.failure_streak import StreakWatch
from pipeline.driver.leases import LeaseBook
from pipeline.driver.pool import WorkerPool
from pipeline.driver.watchdog import WorkerWatch
from pipeline.output.epoch import RunEpoch
from pipeline.output.suspects import SuspectRecord
from pipeline.protocol.messages import Event
from pipeline.protocol.shutdown import StopNotice


def watched_work(
    pool: WorkerPool,
    book: LeaseBook,
    state: ProgressState,
    epoch: RunEpoch,
    limit: FailureLimit | None,
    exports: list[MetricsExport],
    suspects: SuspectRecord,
    notice: StopNotice | None = None,
    watch: WorkerWatch | None = None,
    *,
    read_image: Callable[[str], bytes],
    rows_ahead: int = 0,
    max_engine_streak: int | None = None,
) -> CoordinatorReport:
    """Run every lease; what workers say is counted, shown, noted in the store and exported on the way.

    Raises:
        DimooError: As ``Coordinator.run``, and when more rows fail than the job allows.
    """
    note = RunNote(state, epoch.note)
    with display_of(state, read_image) as display:

        def listen(name: str, event: Event) -> None:
            state.take(name, event)
            display.refresh()
            if limit is not None:
                limit.take(name, event)

        def check() -> None:
            epoch.check()
            if note.refresh():
                for export in exports:
                    export.refresh()
            if limit is not None:
                limit.check(state.num_rows - state.num_resumed)

        try:
            streaks = StreakWatch(max_engine_streak)
            coordinator = Coordinator(
                pool, book, listen, check, suspects, notice, watch, streaks, rows_ahead=rows_ahead
            )
            return coordinator.run()
        finally:
            note.refresh(is_last=True)
