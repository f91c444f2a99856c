"""Rows prefetched for the engine: segments read ahead, their rows made into requests on the fetch threads.

Rows of a poison segment run one at a time: the one that is alone with a dying worker is the one that kills.
"""

import queue
from contextlib import suppress
from dataclasses import replace
from functools import partial

from manifests.errors import RowFailure
from manifests.files.reader import SegmentReader
from manifests.row.parse import Row
from pipeline.output.directory import RunDirectory
from pipeline.output.failures import QUARANTINED
from pipeline.output.parts import PartName
from pipeline.output.poison_segments import PoisonRecord
from pipeline.output.results import RowSuccess
from pipeline.protocol.messages import Lease, LeaseQueue
from pipeline.protocol.settings import FailurePolicy
from pipeline.rows.failure import RowBoundary
from pipeline.rows.flow import RowFlow
from pipeline.rows.preprocess import Preprocessor
from pipeline.rows.row_hooks import RawRow, RowHooks
from pipeline.storage.reader import ObjectReader
from pipeline.storage.retry import RetryPolicy
from pipeline.storage.uri import folder_of
from pipeline.worker.commit import SegmentCommitter
from pipeline.worker.output import FedRow, OutputStage
from pipeline.worker.segment import OpenSegment
from pipeline.worker.threads import WorkerThreads


class IsolatedRows:
    """Decides, row by row, whether a poison segment's row is run again. Used by the feeder thread."""

    def __init__(self, record: PoisonRecord, policy: FailurePolicy) -> None:
        self._record = record
        self._policy = policy

    def admit(self, lease: Lease, row: Row | RawRow) -> Row | RawRow | RowFailure:
        """The row, after the store knows that it is the next to be run; or its failure, if too many workers died."""
        crash_history = lease.crash_history
        assert crash_history is not None
        failure_class = crash_history.failure_class
        if crash_history.is_quarantined(row.index, self._policy.max_tries(failure_class)):
            times = 1 + crash_history.deaths[row.index]
            message = (
                f"{times} workers died while running this row, the last one running it alone: {crash_history.reason}"
            )
            return RowFailure(row.index, row.id, "generate", QUARANTINED, message, failure_class, times)
        self._record.put(lease.segment.name, replace(crash_history, running=row.index))
        return row


_POLL_TIMEOUT_S = 0.05


class RowPrefetcher:
    """Prepares the rows of leases, as far ahead of the engine as credits go.

    Args:
        preprocessor: Makes rows into requests; closed with this.
    """

    def __init__(
        self,
        threads: WorkerThreads,
        hooks: RowHooks,
        preprocessor: Preprocessor,
        isolated_rows: IsolatedRows,
        run_directory: RunDirectory,
        retry_policy: RetryPolicy,
        committer: SegmentCommitter,
        output_stage: OutputStage,
        boundary: RowBoundary,
    ) -> None:
        self._threads = threads
        self._hooks = hooks
        self._preprocessor = preprocessor
        self._isolated_rows = isolated_rows
        self._run_directory = run_directory
        self._retry_policy = retry_policy
        self._committer = committer
        self._output_stage = output_stage
        self._boundary = boundary
        self._objects = ObjectReader()
        self._ready: queue.SimpleQueue[FedRow] = queue.SimpleQueue()

    def ready(self, timeout_s: float = 0.0) -> list[FedRow]:
        """Rows that have become ready since the last call, in that order; waits a while for the first of them."""
        rows: list[FedRow] = []
        with suppress(queue.Empty):
            rows.append(self._ready.get(timeout=timeout_s) if timeout_s else self._ready.get_nowait())
            while True:
                rows.append(self._ready.get_nowait())
        return rows

    def run(self, leases: LeaseQueue) -> None:
        """Read leased segments and hand their rows to the fetch threads, until the queue or the run ends."""
        with SegmentReader(self._objects.open) as reader:
            while not self._threads.stop.is_set() and not self._threads.shutdown.is_requested:
                try:
                    lease = leases.get(timeout=_POLL_TIMEOUT_S)
                except queue.Empty:
                    continue
                if lease is None:
                    return
                with self._threads.clock.work():
                    segment = self._opened(lease, reader)
                    self._committer.open(segment)
                if segment.is_complete:
                    self._threads.store(self._committer.close, segment)
                self._feed_rows(segment)

    def close(self) -> None:
        """Let go of connections and processes."""
        self._preprocessor.close()
        self._objects.close()

    def _opened(self, lease: Lease, reader: SegmentReader) -> OpenSegment:
        rows = self._retry_policy.retry(partial(reader.read, lease.segment))
        if lease.retry is None:
            return OpenSegment(lease, rows)
        last = PartName(lease.segment.name, lease.retry.after)
        return OpenSegment(lease, rows, self._retry_policy.retry(partial(self._run_directory.summary, last)).failures)

    def _feed_rows(self, segment: OpenSegment) -> None:
        """All rows of a segment; those of a poison segment one after the other."""
        for item in self._hooks.rows(segment.rows, segment.segment.first_row):
            if self._threads.takes_no_rows:
                return
            row = item.row if isinstance(item, RowFailure) else item.index
            if segment.wants(row):
                self._feed_row(segment, item)
            while segment.wants(row) and segment.lease.crash_history is not None and not self._threads.takes_no_rows:
                if segment.wait_for(row, _POLL_TIMEOUT_S):
                    break

    def _feed_row(self, segment: OpenSegment, item: Row | RawRow | RowFailure) -> None:
        while not self._committer.take_credit(_POLL_TIMEOUT_S):
            if self._threads.takes_no_rows:
                return
        if not isinstance(item, RowFailure) and (first := segment.lease.repeats.get(item.index)) is not None:
            message = f"id {item.id!r} is already the id of row {first}: give each row a unique id"
            item = RowFailure(item.index, item.id, "manifest", "ManifestRowError", message)
        if not isinstance(item, RowFailure) and segment.lease.crash_history is not None:
            item = self._isolated_rows.admit(segment.lease, item)
        if isinstance(item, RowFailure):
            self._threads.store(self._committer.commit_held, segment, item)
        else:
            self._threads.fetch(self._preprocess, segment, item)

    def _preprocess(self, segment: OpenSegment, given: Row | RawRow) -> None:
        prepared = self._boundary.run(given, "decode", lambda: self._prepared(segment, given))
        if isinstance(prepared, RowSuccess):
            self._committer.commit_held(segment, prepared, is_reused=True)
        elif isinstance(prepared, RowFailure):
            self._committer.commit_held(segment, prepared)
        elif prepared.is_over:
            self._output_stage.take([(segment, prepared)])
        else:
            self._ready.put((segment, prepared))

    def _prepared(self, segment: OpenSegment, given: Row | RawRow) -> RowSuccess | RowFlow | RowFailure:
        """The row's result, if an earlier start or another worker has made it; else what it asks of the engine."""
        if (done := self._committer.partials.reused(segment, given.index)) is not None:
            return done
        row = self._hooks.before(given) if isinstance(given, RawRow) else given
        folder = folder_of(segment.segment.file_uri)
        return row if isinstance(row, RowFailure) else self._preprocessor.preprocess(row, folder)
