"""Some of a plan's segments, a bit for each: 200 kB for the 1.6 million segments of 10^8 rows."""

from collections.abc import Iterable, Iterator

from manifests.files.plan import Segment, ShardPlan


class SegmentSet:
    """Segments of one plan, by name. Iterating gives them in row order. One thread at a time may add.

    Args:
        plan: Whose segments these are.
        names: Some to begin with.

    Raises:
        KeyError: A name is that of no segment of the plan.
    """

    def __init__(self, plan: ShardPlan, names: Iterable[str] = ()) -> None:
        self.plan = plan
        self._bits = bytearray(-(-plan.num_segments // 8))
        self._count = 0
        for name in names:
            self.add(name)

    def add(self, name: str) -> bool:
        """Take a segment in; whether it was not there before.

        Raises:
            KeyError: The plan has no segment of that name.
        """
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
