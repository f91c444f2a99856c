"""Whether parts, taken in the order of their names, hold every row of a run exactly once."""

from collections.abc import Callable

from pipeline.verify.facts import RunFacts
from pipeline.verify.finding import Finding, row_span
from pipeline.verify.part import PartAudit


class RowCoverage:
    """Follows the row ranges of parts; the only state is where the last one ended.

    Names sort like the rows, so that parts whose ranges follow each other without gap or overlap hold each row once.
    Before a run has ended a gap is nothing wrong, its rows are counted.
    """

    def __init__(self, facts: RunFacts, tell: Callable[[Finding], None], *, has_ended: bool = True) -> None:
        self._facts = facts
        self._tell = tell
        self._has_ended = has_ended
        self._next_row = 0
        self.num_left = 0
        self._last: PartAudit | None = None

    def take(self, part: PartAudit) -> None:
        """The next part in the order of names; one that cannot be read leaves a gap.

        Parts of retries add no rows, they are compared with the part before them only.
        """
        if part.rows is None or part.segment.retry:
            return
        first, last = part.rows
        if first < self._next_row:
            found = f"{row_span(first, last)}, which parts before it hold or leave out"
            part.tell("rows", f"rows from {self._next_row} on", found)
            return
        self._take_gap(first)
        self._check_name(part, has_gap=first > self._next_row)
        if last >= self._facts.num_rows:
            part.tell("rows", f"rows up to {self._facts.num_rows - 1}, as run.json says", row_span(first, last))
        self._next_row = last + 1
        self._last = part

    def end(self) -> None:
        """There are no more parts."""
        self._take_gap(self._facts.num_rows)

    def _take_gap(self, first: int) -> None:
        if first <= self._next_row:
            return
        self.num_left += first - self._next_row
        if self._has_ended:
            span = row_span(self._next_row, first - 1)
            before = "at the start" if self._last is None else f"after {self._last.segment.part_key}"
            self._tell(Finding("parts/", span, f"in a part {before}", "in none", self._short_part()))

    def _short_part(self) -> str | None:
        """The part before a gap, if it has fewer rows than a segment may have: the gap may be in its own rows."""
        if self._last is None or self._last.rows is None:
            return None
        is_short = self._next_row - self._last.rows[0] < self._facts.segment_rows
        return self._last.segment.part_key if is_short else None

    def _check_name(self, part: PartAudit, *, has_gap: bool) -> None:
        """A segment's place in its shard says where it begins; a new shard follows the one before."""
        shard, place = part.segment.segment
        if self._last is not None and self._last.rows is not None and shard == self._last.segment.shard:
            expected = self._last.rows[0] + (place - self._last.segment.place) * self._facts.segment_rows
            if part.rows is not None and part.rows[0] != expected:
                found = str(part.rows[0])
                part.tell("first row", f"{expected}, by its name and {self._facts.segment_rows} rows a segment", found)
        elif not has_gap:
            follows = f"{0 if self._last is None else self._last.segment.shard + 1:07d}-00000"
            if str(part.segment) != follows:
                part.tell("name", f"{follows}, by its rows", str(part.segment))
