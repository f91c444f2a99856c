"""Every object of an output, sorted into what it is by its name alone."""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.storage.base import Store
from pipeline.verify.finding import Finding


class SegmentName(NamedTuple):
    """The numbers in a part's name: the shard, the place in it, and which of the segment's retries made the part.

    They sort like the rows, and a segment's retries after it. ``retry`` is 0 for the segment's own part.
    """

    shard: int
    place: int
    retry: int = 0

    def __str__(self) -> str:
        return f"{self.shard:07d}-{self.place:05d}{f'-r{self.retry}' if self.retry else ''}"

    @property
    def segment(self) -> tuple[int, int]:
        """What the parts of a segment have in common."""
        return self.shard, self.place

    @property
    def part_key(self) -> str:
        """Where the part is."""
        return f"parts/{self}.parquet"

    @property
    def quarantine_key(self) -> str:
        """Where its rows that killed their workers are named."""
        return f"_quarantine/{self}.json"

    @property
    def failures_key(self) -> str:
        """Where its failures are repeated."""
        return f"_failures/{self}.parquet"


_PART = r"(?P<shard>\d{7})-(?P<place>\d{5})(-r(?P<retry>[1-9]\d*))?"
_SEGMENT_FILE = re.compile(rf"(?P<folder>parts|_failures)/{_PART}\.parquet")
_IMAGE = re.compile(r"images/(?P<shard>\d{7})/[^/]+")
_QUARANTINE = re.compile(rf"_quarantine/{_PART}\.json")
_POISON = re.compile(rf"_suspects/{_PART}\.json")
_RETRY = re.compile(r"_retries/(?P<number>\d{6,})\.json")
_OTHERS = re.compile(
    r"run\.json|_SUCCESS|_epochs/\d{6,}((-beat)?\.json|\.log)|_damaged/.+|README\.md|report/.+|replay/.+"
)


@dataclass(slots=True)
class RunListing:
    """What is in an output. Memory grows with segments, not with rows: images are counted by shard."""

    parts: list[SegmentName] = field(default_factory=list)
    copies: set[SegmentName] = field(default_factory=set)
    quarantines: set[SegmentName] = field(default_factory=set)
    retries: set[int] = field(default_factory=set)
    num_images: Counter[int] = field(default_factory=Counter)

    def parts_of(self, shard: int) -> list[SegmentName]:
        """Parts of one shard, in order."""
        first = bisect_left(self.parts, SegmentName(shard, 0))
        return self.parts[first : bisect_left(self.parts, SegmentName(shard + 1, 0))]

    def is_last(self, part: SegmentName) -> bool:
        """Whether no part of a later retry follows."""
        after = bisect_right(self.parts, part)
        return after == len(self.parts) or self.parts[after].segment != part.segment


def list_run(store: Store, tell: Callable[[Finding], None], tell_orphan: Callable[[str], None]) -> RunListing:
    """List an output once.

    Args:
        tell: Called with objects that readers of ``parts/`` or ``_failures/`` would take for theirs.
        tell_orphan: Called with objects that belong to no run.
    """
    listing = RunListing()
    poison_segments: dict[SegmentName, str] = {}
    for key in store.list():
        if match := _SEGMENT_FILE.fullmatch(key):
            segment = _named(match)
            if match["folder"] == "parts":
                listing.parts.append(segment)
            else:
                listing.copies.add(segment)
        elif match := _QUARANTINE.fullmatch(key):
            listing.quarantines.add(_named(match))
        elif match := _POISON.fullmatch(key):
            poison_segments[_named(match)] = key
        elif match := _RETRY.fullmatch(key):
            listing.retries.add(int(match["number"]))
        elif match := _IMAGE.fullmatch(key):
            listing.num_images[int(match["shard"])] += 1
        elif key.startswith(("parts/", "_failures/")):
            expected = "<shard>-<segment>[-r<n>].parquet"
            tell(Finding(key, "name", expected, "a file that readers take for one of the run"))
        elif not _OTHERS.fullmatch(key):
            tell_orphan(key)
    listing.parts.sort()
    for segment in sorted(
        poison_segments.keys() & set(listing.parts)
    ):  # what is known of a segment matters until its commit
        tell_orphan(poison_segments[segment])
    return listing


def _named(match: re.Match[str]) -> SegmentName:
    return SegmentName(int(match["shard"]), int(match["place"]), int(match["retry"] or 0))
