"""Where rows of one worker end: their results, partial segments of them, and the commit of complete segments."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from manifests.errors import RowFailure
from pipeline.errors import WorkerUnfit
from pipeline.output.directory import RunDirectory
from pipeline.output.epoch import Fence
from pipeline.output.failures import QUARANTINED
from pipeline.output.partials import PartialSegments
from pipeline.output.parts import PartName
from pipeline.output.poison_segments import PoisonRecord
from pipeline.output.results import PartSummary, RowResult, RowSuccess, RunTotals, part_bytes
from pipeline.protocol.messages import Event, SegmentCommitted, SegmentHeldBack, Streak
from pipeline.protocol.settings import RunSettings
from pipeline.rows.failure import OF_THE_RUN, failure_of
from pipeline.storage.retry import RetryPolicy
from pipeline.worker.partials import PartialWriter
from pipeline.worker.segment import OpenSegment

MAX_UNFIT_WORKERS = 2
"""After so many workers have ended with the same segment, its failures are taken to be its own."""


_CODEC_CAUSE = "CodecNotFinite"


class StreakKeeper:
    """The streak of one worker, and the segments that wait for its end. Threads may share it.

    Args:
        max_rows: The streak that is too long; None: there is none, and nothing is held back.

    Attributes:
        streak: The present one, None after a row that was done.
        num_held: Complete segments that are held back.
    """

    def __init__(self, max_rows: int | None) -> None:
        self._max_rows = max_rows
        self._marked: dict[int, OpenSegment] = {}  # with rows of the streak, by identity
        self._held: list[OpenSegment] = []
        self._lock = threading.Lock()
        self._is_unfit = False
        self.streak: Streak | None = None

    @property
    def num_held(self) -> int:
        """Complete segments that are not committed."""
        with self._lock:
            return len(self._held)

    def take(self, segment: OpenSegment, row_result: RowResult, *, is_reused: bool) -> list[OpenSegment]:
        """Count a row's result in; returns the segments that need wait no longer.

        Args:
            is_reused: Whether another worker has made it.

        Raises:
            WorkerUnfit: The streak is too long. Nothing that was held back is released any more.
        """
        if isinstance(row_result, RowFailure):
            with self._lock:
                self._count(segment, row_result)
            return []
        assert isinstance(row_result, RowSuccess)
        with self._lock:
            if is_reused or not self._is_ended_by(row_result):
                return []
            self.streak = None
            return self._freed()

    def holds_back(self, segment: OpenSegment) -> bool:
        """Whether a complete segment has to wait, and is kept for that."""
        with self._lock:
            if id(segment) not in self._marked:
                return False
            self._held.append(segment)
            return True

    def release(self) -> list[OpenSegment]:
        """What is held back, as there are no more rows to show whose fault it is; the streak continues."""
        with self._lock:
            return self._freed()

    def _count(self, segment: OpenSegment, failure: RowFailure) -> None:
        is_of_engine = failure.failure_class == "engine" and failure.stage == "generate"
        is_ours = is_of_engine and failure.error_type != QUARANTINED
        if self._max_rows is None or not is_ours or segment.lease.num_unfit >= MAX_UNFIT_WORKERS:
            return
        num_rows = 1 + (self.streak.num_rows if self.streak is not None else 0)
        self.streak = Streak(num_rows, failure.error_type, failure.message)
        self._marked[id(segment)] = segment
        if num_rows >= self._max_rows and not self._is_unfit:
            self._is_unfit = True
            names = tuple(each.segment.name for each in self._marked.values())
            words = f"the engine failed on {num_rows} consecutive rows, the last {failure.id!r}"
            raise WorkerUnfit(f"{words}: {failure.message}", names)

    def _is_ended_by(self, done: RowSuccess) -> bool:
        """A row that used the codec alone proves nothing about the transformer."""
        return done.steps > 0 or (self.streak is not None and self.streak.cause == _CODEC_CAUSE)

    def _freed(self) -> list[OpenSegment]:
        if self._is_unfit:
            return []
        freed, self._held = self._held, []
        self._marked.clear()
        return freed


_MAX_SHOWN_FAILURES = 8  # of a segment, in its event; all of them are in its part


class SegmentCommitter:
    """Takes results of the rows in flight, from several threads at once.

    A row in flight costs a credit, which its result gives back, so memory does not grow with the manifest.

    Args:
        poison_segments: Cleared of segments that are committed.

    Attributes:
        partials: Of segments that are open.
        streaks: The rows in succession on which the engine has failed.
        num_done, num_failed: Rows so far.
        num_open_segments: Those that are not committed yet.
        latest_image: Key of the image of the row that was completed last.
    """

    def __init__(
        self,
        settings: RunSettings,
        run_directory: RunDirectory,
        fence: Fence,
        poison_segments: PoisonRecord,
        retry_policy: RetryPolicy,
        emit: Callable[[Event], None],
    ) -> None:
        self._settings = settings
        self._run_directory = run_directory
        self._fence = fence
        self._poison_segments = poison_segments
        self._retry_policy = retry_policy
        self._emit = emit
        self._credits = threading.Semaphore(settings.pipeline.max_rows_in_flight)
        self._counts_lock = threading.Lock()
        self.partials = PartialWriter(
            PartialSegments(run_directory.store, retry_policy), settings.pipeline, settings.settings_digest
        )
        self.streaks = StreakKeeper(settings.failures.max_engine_streak)
        self.num_open_segments = 0
        self.num_done = 0
        self.num_failed = 0
        self.latest_image: str | None = None

    def take_credit(self, timeout_s: float) -> bool:
        """Whether one more row may be in flight; waits a while for that."""
        return self._credits.acquire(timeout=timeout_s)

    def open(self, segment: OpenSegment) -> None:
        """Rows of a segment are about to be completed."""
        self.partials.open(segment)
        with self._counts_lock:
            self.num_open_segments += 1

    def commit_held(self, segment: OpenSegment, row_result: RowResult, *, is_reused: bool = False) -> None:
        """Record a result, give its credit back, and commit the segment if it was the last."""
        is_complete = segment.add(row_result)
        self._credits.release()
        with self._counts_lock:
            self.num_done += isinstance(row_result, RowSuccess)
            self.num_failed += isinstance(row_result, RowFailure)
            if isinstance(row_result, RowSuccess) and row_result.output is not None:
                self.latest_image = row_result.output
        self._commit_all(self.streaks.take(segment, row_result, is_reused=is_reused))
        if is_complete:
            self.close(segment)
        elif isinstance(row_result, RowSuccess):
            self.partials.note(segment, row_result)

    def close(self, segment: OpenSegment) -> None:
        """Commit a segment of which every row has a result, now or when it need not be held back any more."""
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
            self.partials.close(segment)
            with self._counts_lock:
                self.num_open_segments -= 1

    def _commit(self, open_segment: OpenSegment) -> None:
        segment, row_results = open_segment.segment, open_segment.row_results()
        try:
            part = self._part(open_segment, row_results, open_segment.expected_rows)
        except OF_THE_RUN:
            raise
        except BaseException:  # a row holds what no part can
            row_results = [self._storable(open_segment, row_result) for row_result in row_results]
            part = self._part(open_segment, row_results, open_segment.expected_rows)
        failures = tuple(row_result for row_result in row_results if isinstance(row_result, RowFailure))
        summary = PartSummary(len(row_results) - len(failures), failures)
        standing = self._retry_policy.retry(partial(self._publish, open_segment.part, part, summary))
        if open_segment.lease.crash_history is not None:
            self._poison_segments.clear(segment.name)
        ours = [failure for failure in failures if open_segment.wants(failure.row)]
        by_class = Counter(failure.failure_class for failure in ours)
        totals = RunTotals(standing.num_done, max(0, len(standing.failures) - open_segment.num_kept))
        self._emit(SegmentCommitted(segment.name, totals, tuple(by_class.items()), tuple(ours[:_MAX_SHOWN_FAILURES])))

    def _part(self, segment: OpenSegment, row_results: Sequence[RowResult], expected_rows: Sequence[int]) -> bytes:
        retry = segment.lease.retry
        return part_bytes(
            row_results,
            segment.rows,
            segment.segment.first_row,
            writer=uuid.uuid4().hex,
            run=self._settings.run_digest,
            expected_rows=expected_rows,
            retry=retry.number if retry is not None else 0,
            score_columns=self._settings.results.hooks.score_columns,
        )

    def _storable(self, segment: OpenSegment, row_result: RowResult) -> RowResult:
        """The row's result, or its failure if a part cannot hold it."""
        try:
            self._part(segment, [row_result], [row_result.row])
        except OF_THE_RUN:
            raise
        except BaseException as error:
            with self._counts_lock:
                self.num_done, self.num_failed = self.num_done - 1, self.num_failed + 1
            return failure_of(row_result.row, row_result.id, "store", error)
        return row_result

    def _publish(self, name: PartName, part: bytes, summary: PartSummary) -> PartSummary:
        """One try, fence included: a store that throttles is waited for so long that another may take over."""
        self._fence.check()
        return self._run_directory.commit(name, part, summary)
