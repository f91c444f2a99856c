"""The segments of a plan that are done, as the names of parts tell it."""

from collections.abc import Iterable
from typing import Self

from manifests.files.plan import ShardPlan
from pipeline.output.part_name import PartName
from pipeline.output.segment_set import SegmentSet


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
        """Those that these parts are of, in any order.

        Raises:
            KeyError: The plan has no such segment; a retry's part without its segment's own counts alike.
        """
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
        """The one that tells the segment's failures as they stand."""
        return PartName(segment_name, self._retries.get(segment_name, 0))
