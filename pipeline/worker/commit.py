"""Where rows of one worker end: their outcomes, drafts of them, and the commit of segments that are complete."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from manifests.errors import RowFailure
from pipeline.output.directory import RunDirectory
from pipeline.output.epoch import Fence
from pipeline.output.partials import Drafts
from pipeline.output.parts import PartName
from pipeline.output.results import Outcome, PartSummary, RowDone, RunTotals, part_bytes
from pipeline.output.suspects import SuspectRecord
from pipeline.protocol.messages import Event, SegmentCommitted, SegmentHeldBack
from pipeline.protocol.settings import RunSettings
from pipeline.storage.retry import Patience
from pipeline.worker.partials import DraftKeeper
from pipeline.worker.segment import OpenSegment
from pipeline.worker.streak import StreakKeeper


class Settlement:
    """Takes outcomes of the rows in hand, from several threads at once.

    A row in hand costs a credit, which its outcome gives back, so memory does not grow with the manifest.

    Args:
        settings: Of the run.
        run_directory: Where parts go.
        fence: Passed before each commit.
        suspects: Cleared of segments that are committed.
        patience: With the store.
        emit: Told of each commit.

    Attributes:
        drafts: Of segments that are open.
        streaks: The rows in succession on which the engine has failed.
        num_done, num_failed: Rows so far.
        num_open_segments: Those that are not committed yet.
        latest_image: Key of the image of the row that was settled last.
    """

    def __init__(
        self,
        settings: RunSettings,
        run_directory: RunDirectory,
        fence: Fence,
        suspects: SuspectRecord,
        patience: Patience,
        emit: Callable[[Event], None],
    ) -> None:
        self._settings = settings
        self._run_directory = run_directory
        self._fence = fence
        self._suspects = suspects
        self._patience = patience
        self._emit = emit
        self._credits = threading.Semaphore(settings.max_rows_in_flight)
        self._counts_lock = threading.Lock()
        self.drafts = DraftKeeper(Drafts(run_directory.store, patience), settings.flush, settings.settings_digest)
        self.streaks = StreakKeeper(settings.failures.max_engine_streak)
        self.num_open_segments = 0
        self.num_done = 0
        self.num_failed = 0
        self.latest_image: str | None = None

    def take_credit(self, timeout_s: float) -> bool:
        """Whether one more row may be taken in hand; waits a while for that."""
        return self._credits.acquire(timeout=timeout_s)

    def open(self, segment: OpenSegment) -> None:
        """Rows of a segment are going to be settled."""
        self.drafts.open(segment)
        with self._counts_lock:
            self.num_open_segments += 1

    def settle(self, segment: OpenSegment, outcome: Outcome, *, is_adopted: bool = False) -> None:
        """Record an outcome, give its credit back, and commit the segment if it was the last.

        Raises:
            WorkerUnfit: The engine fails on row after row.
        """
        is_complete = segment.add(outcome)
        self._credits.release()
        with self._counts_lock:
            self.num_done += isinstance(outcome, RowDone)
            self.num_failed += isinstance(outcome, RowFailure)
            if isinstance(outcome, RowDone) and outcome.output is not None:
                self.latest_image = outcome.output
        self._commit_all(self.streaks.take(segment, outcome, is_adopted=is_adopted))
        if is_complete:
            self.close(segment)
        elif isinstance(outcome, RowDone):
            self.drafts.note(segment, outcome)

    def close(self, segment: OpenSegment) -> None:
        """Commit a segment of which every row has its outcome, now or when it need not be held back any more."""
        if self.streaks.holds_back(segment):
            self._emit(SegmentHeldBack(segment.segment.name))
        else:
            self._commit_all([segment])

    def release(self) -> None:
        """Commit what is held back."""
        self._commit_all(self.streaks.release())

    def _commit_all(self, segments: Sequence[OpenSegment]) -> None:
        for segment in segments:
            self._commit(segment)
            self.drafts.close(segment)
            with self._counts_lock:
                self.num_open_segments -= 1

    def _commit(self, open_segment: OpenSegment) -> None:
        segment, outcomes, retry = open_segment.segment, open_segment.outcomes(), open_segment.lease.retry
        failures = tuple(outcome for outcome in outcomes if isinstance(outcome, RowFailure))
        part = part_bytes(
            outcomes,
            open_segment.rows,
            segment.first_row,
            writer=uuid.uuid4().hex,
            run=self._settings.run_digest,
            expected_rows=open_segment.expected_rows,
            retry=retry.number if retry is not None else 0,
            score_columns=self._settings.hooks.score_columns,
        )
        summary = PartSummary(len(outcomes) - len(failures), failures)
        standing = self._patience.retry(partial(self._publish, open_segment.part, part, summary))
        if open_segment.lease.suspicion is not None:
            self._suspects.clear(segment.name)
        by_class = Counter(failure.failure_class for failure in failures if open_segment.wants(failure.row))
        totals = RunTotals(standing.num_done, max(0, len(standing.failures) - open_segment.num_kept))
        self._emit(SegmentCommitted(segment.name, totals, tuple(by_class.items())))

    def _publish(self, name: PartName, part: bytes, summary: PartSummary) -> PartSummary:
        """One try, fence included: a store that throttles is waited for so long that another may take over."""
        self._fence.check()
        return self._run_directory.commit(name, part, summary)
