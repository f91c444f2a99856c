"""How the parts of a run are named: one for each segment, and one more for each retry of its failed rows.

``<segment>.parquet`` comes first, then ``<segment>-r1.parquet`` and so on. A part after the first has an outcome for
each row that failed in the one before it, and for no other. So a segment's finished rows are those of all its parts,
its failures those of the last.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple, Self

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
        """Where the part lies."""
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
