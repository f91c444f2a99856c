"""How parts are named, and what is derived from that name."""

from typing import NamedTuple


class SegmentName(NamedTuple):
    """The two numbers in a part's name: the shard, and the place in it. They sort like the rows."""

    shard: int
    place: int

    def __str__(self) -> str:
        return f"{self.shard:07d}-{self.place:05d}"

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
