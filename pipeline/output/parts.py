"""The parts of a run: their names, and which segments of a plan they complete.

Each segment has one part, and one more for each retry of its failed rows: ``<segment>.parquet``, then
``<segment>-r1.parquet`` and so on. A part after the first has a result for each row that failed in the one before it,
and for no other. So a segment's finished rows are those of all its parts, its failures those of the last.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple, Self

from manifests.files.plan import Segment, ShardPlan


class SegmentSet:
    """Segments of one plan, by name. Iterating gives them in row order. One thread at a time may add."""

    def __init__(self, plan: ShardPlan, names: Iterable[str] = ()) -> None:
        self.plan = plan
        self._bits = bytearray(-(-plan.num_segments // 8))
        self._count = 0
        for name in names:
            self.add(name)

    def add(self, name: str) -> bool:
        """Take a segment in; whether it was not there before."""
        number = self.plan.number_of(name)
        if number is None:
            raise KeyError(name)
        byte, bit = number >> 3, 1 << (number & 7)
        is_new = not self._bits[byte] & bit
        self._bits[byte] |= bit
        self._count += is_new
        return is_new

    def __contains__(self, name: object) -> bool:
        number = self.plan.number_of(name) if isinstance(name, str) else None
        return number is not None and self._holds(number)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Segment]:
        return (self.plan.segment(number) for number in range(self.plan.num_segments) if self._holds(number))

    @property
    def num_missing(self) -> int:
        """Segments of the plan that are not here."""
        return self.plan.num_segments - self._count

    def missing(self) -> Iterator[Segment]:
        """Segments of the plan that are not here, in row order; later additions ahead of the iterator are seen."""
        return (self.plan.segment(number) for number in range(self.plan.num_segments) if not self._holds(number))

    def _holds(self, number: int) -> bool:
        return bool(self._bits[number >> 3] & 1 << (number & 7))


PARTS_PREFIX = "parts/"
FAILURES_PREFIX = "_failures/"
QUARANTINE_PREFIX = "_quarantine/"
_NAME = re.compile(r"(?P<segment>\d+-\d+)(-r(?P<retry>[1-9]\d*))?")


class PartName(NamedTuple):
    """A part's segment, and which of the segment's retries made it; 0 is the segment's own. They sort like the rows."""

    segment: str
    retry: int = 0

    @classmethod
    def parse(cls, key: str, prefix: str = PARTS_PREFIX, suffix: str = ".parquet") -> Self | None:
        """The part that a key is about; None if it is about none."""
        match = _NAME.fullmatch(key.removeprefix(prefix).removesuffix(suffix))
        if match is None or not (key.startswith(prefix) and key.endswith(suffix)):
            return None
        return cls(match["segment"], int(match["retry"] or 0))

    def __str__(self) -> str:
        return f"{self.segment}-r{self.retry}" if self.retry else self.segment

    @property
    def key(self) -> str:
        """Where the part is."""
        return f"{PARTS_PREFIX}{self}.parquet"

    @property
    def failures_key(self) -> str:
        """Where its failures are repeated."""
        return f"{FAILURES_PREFIX}{self}.parquet"

    @property
    def quarantine_key(self) -> str:
        """Where its rows that killed their workers are repeated."""
        return f"{QUARANTINE_PREFIX}{self}.json"

    @property
    def earlier(self) -> tuple["PartName", ...]:
        """The segment's parts before this one, in order."""
        return tuple(PartName(self.segment, retry) for retry in range(self.retry))


def parts_by_segment(keys: Iterable[str]) -> Iterator[tuple[PartName, ...]]:
    """The parts among some keys, those of each segment together and in order, segments in the order of the rows."""
    names = sorted(name for key in keys if (name := PartName.parse(key)) is not None)
    for _, parts in groupby(names, key=lambda name: name.segment):
        yield tuple(parts)


class CommittedSegments(SegmentSet):
    """Segments with a part, a bit for each, and how often failed rows were run again in those where any were.

    ``strange_keys`` are those of objects among the parts that are none; of many only the first.
    """

    def __init__(self, plan: ShardPlan) -> None:
        super().__init__(plan)
        self.strange_keys: list[str] = []
        self._retries: dict[str, int] = {}

    @classmethod
    def of(cls, plan: ShardPlan, parts: Iterable[PartName]) -> Self:
        """Those that these parts are of, in any order."""
        committed = cls(plan)
        for part in parts:
            if part.retry:
                committed._retries[part.segment] = max(part.retry, committed._retries.get(part.segment, 0))
            else:
                committed.add(part.segment)
        for name, retry in committed._retries.items():
            if name not in committed:
                raise KeyError(str(PartName(name, retry)))
        return committed

    def last_part(self, segment_name: str) -> PartName:
        """The one with the segment's failures as they stand."""
        return PartName(segment_name, self._retries.get(segment_name, 0))
