"""How parts are named, and what is derived from that name."""

from typing import NamedTuple


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
        """Where the part lies."""
        return f"parts/{self}.parquet"

    @property
    def quarantine_key(self) -> str:
        """Where its rows that killed their workers are named."""
        return f"_quarantine/{self}.json"

    @property
    def failures_key(self) -> str:
        """Where its failures are repeated."""
        return f"_failures/{self}.parquet"
