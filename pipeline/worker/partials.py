"""When finished rows of a worker's open segments are flushed to partial segments, and which ones are reused.

A segment is committed when its last row is done. Until then a crash would cost all of its rows; with partial segments
it costs those in flight and those that were finished since the last flush.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from manifests.redact import error_words
from pipeline.output.partials import PartialRow, PartialSegments, row_fingerprint
from pipeline.output.results import RowSuccess
from pipeline.protocol.settings import PipelineSettings
from pipeline.rows.failure import OF_THE_RUN
from pipeline.worker.segment import OpenSegment

log = logging.getLogger("dimoo_batch.pipeline")


@dataclass(slots=True)
class _Book:
    """What is known of one open segment's partial segments."""

    found: dict[str, RowSuccess] = field(default_factory=dict)  # of earlier workers, by fingerprint
    keys: list[str] = field(default_factory=list)
    reused: set[int] = field(default_factory=set)
    is_closed: bool = False
    waiting: list[RowSuccess] = field(default_factory=list)
    since_s: float = 0.0  # when the first of those that wait was finished


class PartialWriter:
    """The partial segments of one worker's open segments. Threads may share it."""

    def __init__(
        self,
        partials: PartialSegments,
        policy: PipelineSettings,
        settings_digest: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._partials = partials
        self._policy = policy
        self._settings_digest = settings_digest
        self._clock = clock
        self._books: dict[int, tuple[OpenSegment, _Book]] = {}  # by the segment's identity
        self._lock = threading.Lock()

    def open(self, segment: OpenSegment) -> None:
        """A segment begins; partial segments are looked for if there may be some."""
        found, keys = self._partials.of(segment.part) if segment.lease.has_partials else ({}, [])
        with self._lock:
            self._books[id(segment)] = segment, _Book(found, keys)

    def reused(self, segment: OpenSegment, row: int) -> RowSuccess | None:
        """A row that another worker has finished, with all its images; None if it has to be made."""
        if not (found := self._books[id(segment)][1].found):
            return None
        done = found.get(self._fingerprint(segment, row))
        if done is None or done.row != row or not self._partials.has_images(done):
            return None
        with self._lock:
            self._books[id(segment)][1].reused.add(row)
        return done

    def note(self, segment: OpenSegment, done: RowSuccess) -> None:
        """A row is finished and its segment is not; flushes what waits if that is enough."""
        with self._lock:
            book = self._book(segment)
            if book.is_closed or done.row in book.reused:  # a reused row is in a partial segment
                return
            book.since_s = book.since_s if book.waiting else self._clock()
            book.waiting.append(done)
        self.flush_due(segment)

    def flush_due(self, segment: OpenSegment) -> None:
        """Flush what waits of a segment if it is enough, or has waited for long enough."""
        if self.is_due(segment):
            self.flush(segment)

    def due_segments(self) -> list[OpenSegment]:
        """Segments whose finished rows have waited for long enough."""
        with self._lock:
            segments = [segment for segment, book in self._books.values() if book.waiting]
        return [segment for segment in segments if self.is_due(segment)]

    def is_due(self, segment: OpenSegment) -> bool:
        """Whether finished rows of a segment are to be flushed now."""
        with self._lock:
            book = self._book(segment)
            if not book.waiting:
                return False
            is_enough = self._policy.flush_rows is not None and len(book.waiting) >= self._policy.flush_rows
            seconds = self._policy.flush_s
            return is_enough or (seconds is not None and self._clock() - book.since_s >= seconds)

    def flush(self, segment: OpenSegment) -> None:
        """Put what waits of a segment into a partial segment."""
        with self._lock:
            book = self._book(segment)
            waiting, book.waiting = book.waiting, []
        if not waiting:
            return
        rows = [PartialRow(done, self._fingerprint(segment, done.row)) for done in waiting]
        try:
            key = self._partials.keep(segment.part, rows)
        except OF_THE_RUN:
            raise
        except BaseException as error:  # a row holds what no file can: the commit of its segment finds out which
            log.warning(f"a partial segment of {segment.segment.name} is not kept: {error_words(error)}")
            return
        with self._lock:
            book.keys.append(key)
            is_closed = book.is_closed
        if is_closed:  # while it was written
            self._partials.remove([key])

    def flush_all(self) -> None:
        """Put what waits of every open segment into partial segments, before a worker ends that was asked to."""
        with self._lock:
            segments = [segment for segment, _ in self._books.values()]
        for segment in segments:
            self.flush(segment)

    def close(self, segment: OpenSegment) -> None:
        """A segment is committed: its partial segments are of no use any more."""
        with self._lock:
            _, book = self._books.pop(id(segment))
            book.waiting, book.is_closed = [], True
        self._partials.remove(book.keys)

    def _book(self, segment: OpenSegment) -> _Book:
        """Of a segment that another thread has closed: one that takes nothing."""
        _, book = self._books.get(id(segment), (None, _Book(is_closed=True)))
        return book

    def _fingerprint(self, segment: OpenSegment, row: int) -> str:
        return row_fingerprint(self._settings_digest, row, segment.rows, row - segment.segment.first_row)
