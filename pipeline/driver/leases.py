"""Which segments are to be done, by whom, and which are done. Values only: no threads, no store, no Ray.

Memory grows with the workers, not with the segments: what is ahead is an iterator, what is done is forgotten.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace

from manifests.files.plan import Segment
from pipeline.output.poison_segments import CrashHistory
from pipeline.output.retries import SegmentRetry
from pipeline.protocol.messages import Lease

SPECULATE_AFTER_S = 10.0
"""How long a segment is held before it may be copied; most of those that take no longer end by themselves."""


class LeaseBook:
    """Hands out each segment until it is committed; a segment whose worker died is handed out again first.

    A lease is a way to share work, not a lock: the store's commit rule is what keeps two workers from both counting.
    So when nothing is left to hand out, a worker without work gets a copy of what another has held for a while: whoever
    is first commits it.

    Args:
        segments: Every segment of the run, in row order; read as needed.
        poison_segments: What is held against segments, from earlier starts.
        retries: Which rows of segments that are committed are run again.
        partials: Segments of which earlier starts have left finished rows.
        num_ahead: How many segments there are, if it is known.
        clock: Seconds from any origin.
    """

    def __init__(
        self,
        segments: Iterable[Segment],
        committed: Container[str] = (),
        repeats: Mapping[int, int] | None = None,
        *,
        poison_segments: Mapping[str, CrashHistory] | None = None,
        retries: Mapping[str, SegmentRetry] | None = None,
        partials: Container[str] = (),
        num_ahead: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._ahead = (segment for segment in segments if segment.name not in committed)
        self._returned: deque[Lease] = deque()
        self._known_poison_segments = dict(poison_segments or {})
        self._poison_segments: deque[Lease] = deque()  # handed out last, each to a worker that holds nothing else
        self._repeats = dict(repeats or {})
        self._retries = retries or {}
        self._partials = partials
        self._held: dict[str, dict[str, Lease]] = {}
        self._holders: dict[str, list[str]] = {}  # of every segment that is held, in the order of the first lease
        self._single: dict[str, str] = {}  # those of them that one worker alone holds, with that worker
        self._leased_at_s: dict[str, float] = {}  # of every segment that is held
        self._overtaken: dict[str, set[str]] = {}  # what a worker continues with though another has committed it
        self._num_losses: Counter[str] = Counter()
        self.is_exhausted = False
        """Every segment was handed out at least once."""
        self.num_ahead = num_ahead
        """Segments that were never handed out; 0 if it is not known how many there are."""

    def next_for(self, worker: str) -> Lease | None:
        """Lease the next segment to ``worker``; None when there is nothing for it."""
        if any(lease.crash_history is not None for lease in self._held.get(worker, {}).values()):
            return None
        lease = self._returned.popleft() if self._returned else self._next_ahead()
        if lease is None and self._poison_segments and not self.num_held(worker) and not self.is_overtaken(worker):
            lease = self._poison_segments.popleft()
        if lease is None:
            lease = self._speculative_for(worker)
        if lease is not None:
            self._held.setdefault(worker, {})[lease.segment.name] = lease
            self._set_holders(lease.segment.name, [*self._holders.get(lease.segment.name, ()), worker])
        return lease

    def committed(self, worker: str, segment_name: str) -> bool:
        """The segment is done, as ``worker`` reports; False if it was known, so that its rows are counted."""
        self._overtaken.get(worker, set()).discard(segment_name)
        holders = self._holders.get(segment_name, [])
        for holder in holders:
            del self._held[holder][segment_name]
            if holder != worker:
                self._overtaken.setdefault(holder, set()).add(segment_name)
        self._set_holders(segment_name, [])
        self._num_losses.pop(segment_name, None)
        return bool(holders)

    def return_all(self, worker: str, *, is_lost: bool = True, failing: Container[str] = ()) -> list[Lease]:
        """Take back what a worker held; what nobody else holds is handed out next.

        Args:
            is_lost: Whether it died of, or with, what it held.
            failing: Segments because of which it was given up as unfit.
        """
        self._overtaken.pop(worker, None)
        leases = [
            replace(lease, has_partials=True, num_unfit=lease.num_unfit + (name in failing))
            for name, lease in self._held.pop(worker, {}).items()
        ]
        for lease in leases:
            name = lease.segment.name
            self._set_holders(name, [holder for holder in self._holders[name] if holder != worker])
            if name not in self._holders:
                (self._returned if lease.crash_history is None else self._poison_segments).append(lease)
        if is_lost:
            self._num_losses.update(lease.segment.name for lease in leases)
        return leases

    def suspect(self, segment_name: str, crash_history: CrashHistory) -> None:
        """Hand a returned segment out last, alone, with what is held against its rows."""
        for waiting in (self._returned, self._poison_segments):
            for lease in [lease for lease in waiting if lease.segment.name == segment_name]:
                waiting.remove(lease)
                self._poison_segments.append(replace(lease, crash_history=crash_history))

    def num_losses(self, segment_name: str) -> int:
        """How many workers died while they held this segment."""
        return self._num_losses[segment_name]

    def num_held(self, worker: str) -> int:
        """Segments that ``worker`` has and nobody has committed yet."""
        return len(self._held.get(worker, ()))

    def num_rows_held(self, worker: str) -> int:
        """Rows of these segments that are to be run."""
        return sum(lease.num_rows for lease in self._held.get(worker, {}).values())

    def is_overtaken(self, worker: str) -> bool:
        """Whether ``worker`` is busy with a segment that another has committed."""
        return bool(self._overtaken.get(worker))

    def is_idle(self, worker: str) -> bool:
        """Whether ``worker`` has nothing to do."""
        return not self._held.get(worker) and not self._overtaken.get(worker)

    @property
    def has_returned(self) -> bool:
        """Whether something that a worker died of, or with, waits for another one."""
        return bool(self._returned or self._poison_segments)

    @property
    def has_copies(self) -> bool:
        """Whether a segment has been held by one worker alone for so long that an idle one may copy it."""
        oldest = next(iter(self._single), None)
        return oldest is not None and self._leased_at_s[oldest] <= self._clock() - SPECULATE_AFTER_S

    @property
    def is_done(self) -> bool:
        """Nothing is left to hand out and nobody holds anything."""
        return self.is_exhausted and not self._returned and not self._poison_segments and not self._holders

    def _next_ahead(self) -> Lease | None:
        while not self.is_exhausted:
            segment = next(self._ahead, None)
            if segment is None:
                self.is_exhausted = True
                self.num_ahead = 0
                return None
            self.num_ahead = max(0, self.num_ahead - 1)
            lease = self._lease_of(segment)
            if lease.crash_history is None:
                return lease
            self._poison_segments.append(lease)
        return None

    def _lease_of(self, segment: Segment) -> Lease:
        rows = range(segment.first_row, segment.first_row + segment.num_rows)
        repeats = {row: self._repeats[row] for row in rows if row in self._repeats} if self._repeats else {}
        crash_history, retry = self._known_poison_segments.get(segment.name), self._retries.get(segment.name)
        return Lease(segment, repeats, crash_history, retry, has_partials=segment.name in self._partials)

    def _speculative_for(self, worker: str) -> Lease | None:
        """What another worker will probably be last to finish: its queue if it has one, else what is held longest."""
        if not self.has_copies or not self.is_idle(worker):
            return None
        held_since_s = self._clock() - SPECULATE_AFTER_S
        known = [name for name in self._single if self._leased_at_s[name] <= held_since_s]
        longest = max(self.num_held(self._single[name]) for name in known)
        queued = [name for name in known if self.num_held(self._single[name]) == longest]
        name = queued[-1] if longest > 1 else queued[0]
        return replace(self._held[self._single[name]][name], has_partials=True)

    def _set_holders(self, segment_name: str, holders: list[str]) -> None:
        self._single.pop(segment_name, None)
        if not holders:
            self._holders.pop(segment_name, None)
            self._leased_at_s.pop(segment_name, None)
            return
        self._leased_at_s.setdefault(segment_name, self._clock())
        self._holders[segment_name] = holders
        if len(holders) == 1 and self._held[holders[0]][segment_name].crash_history is None:  # those are not copied
            self._single[segment_name] = holders[0]
