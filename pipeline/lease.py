"""Which segments are to be done, by whom, and which are done. Values only: no threads, no store, no Ray."""

import queue
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from manifests.shard import Segment


@dataclass(frozen=True, slots=True)
class Lease:
    """A segment handed to one worker; ``repeats`` names its rows whose id an earlier row has, with that row."""

    segment: Segment
    repeats: Mapping[int, int] = field(default_factory=dict)


LeaseQueue = queue.SimpleQueue[Lease | None]
"""Leases for one worker; None after the last."""


class LeaseBook:
    """Hands out each segment until it is committed; a segment whose worker died is handed out again first.

    A lease is a way to share work, not a lock: the store's commit rule is what keeps two workers from both counting.

    Args:
        segments: Every segment of the run, in row order; read as needed.
        committed: Names of segments that are done already.
        repeats: Rows whose id an earlier row has.
    """

    def __init__(
        self, segments: Iterable[Segment], committed: Collection[str] = (), repeats: Mapping[int, int] | None = None
    ) -> None:
        self._ahead = (segment for segment in segments if segment.name not in committed)
        self._returned: deque[Lease] = deque()
        self._repeats = dict(repeats or {})
        self._held: dict[str, dict[str, Lease]] = {}
        self._num_losses: Counter[str] = Counter()
        self._is_exhausted = False

    def next_for(self, worker: str) -> Lease | None:
        """Lease the next segment to ``worker``; None when there is nothing left to hand out."""
        lease = self._returned.popleft() if self._returned else self._next_ahead()
        if lease is not None:
            self._held.setdefault(worker, {})[lease.segment.name] = lease
        return lease

    def committed(self, worker: str, segment_name: str) -> None:
        """The segment is done, whoever did it."""
        self._held.get(worker, {}).pop(segment_name, None)
        self._num_losses.pop(segment_name, None)

    def return_all(self, worker: str) -> list[Lease]:
        """Take back what a dead worker held; it is handed out next."""
        leases = list(self._held.pop(worker, {}).values())
        self._returned.extend(leases)
        self._num_losses.update(lease.segment.name for lease in leases)
        return leases

    def num_losses(self, segment_name: str) -> int:
        """How many workers died while they held this segment."""
        return self._num_losses[segment_name]

    def num_held(self, worker: str) -> int:
        """Segments that ``worker`` has not committed yet."""
        return len(self._held.get(worker, {}))

    @property
    def is_done(self) -> bool:
        """Nothing is left to hand out and nobody holds anything."""
        return self._is_exhausted and not self._returned and not any(self._held.values())

    def _next_ahead(self) -> Lease | None:
        segment = next(self._ahead, None)
        if segment is None:
            self._is_exhausted = True
            return None
        rows = range(segment.first_row, segment.first_row + segment.num_rows)
        repeats = {row: self._repeats[row] for row in rows if row in self._repeats} if self._repeats else {}
        return Lease(segment, repeats)
