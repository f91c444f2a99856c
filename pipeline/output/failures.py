"""``_failures/`` and ``_quarantine/``: the parts' records of failed rows, repeated for people.

Derived from parts and written after them, so that a crash may leave a copy missing, or one of a part that another has
followed since. Whoever starts next on the output makes that good.
"""

from collections.abc import Sequence
from contextlib import suppress

from manifests.errors import RowFailure
from pipeline.output.parts import FAILURES_PREFIX, QUARANTINE_PREFIX, CommittedSegments, PartName, SegmentSet
from pipeline.output.results import failures_bytes
from pipeline.storage.base import Store
from pipeline.storage.errors import AccessDenied

QUARANTINED = "WorkerDied"
"""The error type of rows that are not run any more."""


class FailureCopies:
    """The copies of one run. Threads may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(self, part: PartName, failures: Sequence[RowFailure]) -> None:
        """Repeat a part's failures, then remove the copies of those before it."""
        if failures:
            self._store.put(part.failures_key, failures_bytes(failures))
        if quarantined := _quarantined(failures):
            rows = [failure.to_json() for failure in quarantined]
            self._store.put_json(part.quarantine_key, rows, indent=2, ensure_ascii=False)
        for before in part.earlier:
            self._store.delete(before.failures_key)
            self._store.delete(before.quarantine_key)


class CopyCheck:
    """Which copies of committed segments are there.

    Those of parts that others have followed, and those whose part is not there, are removed on the way.
    """

    def __init__(self, store: Store, committed: CommittedSegments) -> None:
        self._store = store
        self._committed = committed
        self._copies = FailureCopies(store)
        self._failures = self._standing(FAILURES_PREFIX, ".parquet")
        self._quarantines = self._standing(QUARANTINE_PREFIX, ".json")

    def complete(self, segment_name: str, failures: Sequence[RowFailure]) -> None:
        """Write the copies of a segment's failures unless they are there. Threads may call this."""
        is_missing = bool(failures) and segment_name not in self._failures
        if is_missing or (_quarantined(failures) and segment_name not in self._quarantines):
            self._copies.write(self._committed.last_part(segment_name), failures)

    def _standing(self, prefix: str, suffix: str) -> SegmentSet:
        found = SegmentSet(self._committed.plan)
        for key in self._store.list(prefix):
            if (name := PartName.parse(key, prefix, suffix)) is not None:
                if name.segment in self._committed and name == self._committed.last_part(name.segment):
                    found.add(name.segment)
                elif self._is_stale(name):
                    with suppress(AccessDenied):  # where nothing may be deleted it stays
                        self._store.delete(key)
        return found

    def _is_stale(self, name: PartName) -> bool:
        """Whether a copy is outdated; a part may have come since parts were listed."""
        is_followed = name.segment in self._committed and name.retry < self._committed.last_part(name.segment).retry
        return is_followed or self._store.size(name.key) is None


def _quarantined(failures: Sequence[RowFailure]) -> list[RowFailure]:
    return [failure for failure in failures if failure.error_type == QUARANTINED]
