"""Proves from the store alone that a run is complete and whole, or finds the damage.

Independent of the code that writes: the rules are those of docs/output.md, and only the store itself is shared. Reads
everything, many objects at once. Memory is a few parts and images, and the names of parts.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import filterfalse

from pipeline.ordered_map import ordered_map
from pipeline.storage.base import Store
from pipeline.storage.errors import ObjectNotFound
from pipeline.storage.retry import RetryPolicy
from pipeline.verify.facts import RunFacts, read_run_facts
from pipeline.verify.finding import Finding, row_span
from pipeline.verify.image import ImageAudit, ImageClaim, audit_image
from pipeline.verify.listing import RunListing, SegmentName, list_run
from pipeline.verify.part import PartAudit, audit_part, image_keys
from pipeline.verify.retries import RetryAudit


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
        """A segment begins where its place in its shard puts it; a new shard follows the one before."""
        shard, place = part.segment.segment
        if self._last is not None and self._last.rows is not None and shard == self._last.segment.shard:
            expected = self._last.rows[0] + (place - self._last.segment.place) * self._facts.segment_rows
            if part.rows is not None and part.rows[0] != expected:
                found = str(part.rows[0])
                part.tell(
                    "first row", f"{expected}, by its name and {self._facts.segment_rows} rows per segment", found
                )
        elif not has_gap:
            follows = f"{0 if self._last is None else self._last.segment.shard + 1:07d}-00000"
            if str(part.segment) != follows:
                part.tell("name", f"{follows}, by its rows", str(part.segment))


_PART_THREADS = 8
_IMAGE_THREADS = 16


@dataclass(slots=True)
class AuditTotals:
    """What a check has seen; complete if there are no findings and the run has ended.

    ``num_left`` counts rows that are in no part.
    """

    num_rows: int = 0
    num_done: int = 0
    num_failed: int = 0
    num_parts: int = 0
    num_images: int = 0
    num_findings: int = 0
    num_orphans: int = 0
    num_left: int = 0
    has_ended: bool = True

    @property
    def is_complete(self) -> bool:
        """Whether every row is there exactly once, and everything that it refers to."""
        return self.has_ended and self.num_findings == 0


@dataclass(slots=True)
class RunAudit:
    """The check of one output. ``run`` may be called once.

    Args:
        tell: Called with each finding, on the caller's thread.
        tell_orphan: Called with the key of each object that nothing refers to; a killed run may leave some, harmlessly.
        tell_unended: Called before anything else if the run has not ended: what is not there yet is no finding then.
    """

    store: Store
    tell: Callable[[Finding], None]
    tell_orphan: Callable[[str], None]
    tell_unended: Callable[[], None] = lambda: None
    totals: AuditTotals = field(default_factory=AuditTotals)
    _retry_policy: RetryPolicy = field(default_factory=lambda: RetryPolicy(threading.Event()))

    def run(self) -> AuditTotals:
        """Read the whole output.

        Raises:
            NotARun: No run is there.
            StoreError: The store is out of reach.
        """
        facts = self._retry_policy.retry(lambda: read_run_facts(self.store))
        self.totals.num_rows = facts.num_rows
        self.totals.has_ended = self._retry_policy.retry(lambda: self.store.size("_SUCCESS")) is not None
        if not self.totals.has_ended:
            self.tell_unended()
        listing = list_run(self.store, self._found, self._orphan)
        for copy in sorted(listing.copies.difference(listing.parts)):
            self._found(Finding(copy.failures_key, "object", f"a copy from {copy.part_key}", "no such part"))
        for copy in sorted(listing.quarantines.difference(listing.parts)):
            self._found(Finding(copy.quarantine_key, "object", f"rows of {copy.part_key}", "no such part"))
        present: Counter[int] = Counter()
        with ThreadPoolExecutor(_PART_THREADS) as parts_pool, ThreadPoolExecutor(_IMAGE_THREADS) as images_pool:
            work = partial(self._audit_part, facts, listing)
            parts = ordered_map(parts_pool, work, listing.parts, window=2 * _PART_THREADS)
            look = partial(self._audit_image, facts)
            retries = RetryAudit(self.store, listing.retries, self._found)
            images = self._images_of(parts, facts, retries)
            for image in ordered_map(images_pool, look, images, window=2 * _IMAGE_THREADS):
                present[_shard_of(image.key)] += image.is_present
                self.totals.num_images += image.is_present
                self._all_found(image.findings)
        self._find_orphans(listing, present)
        if self.totals.has_ended:
            self._check_success()
        return self.totals

    def _audit_part(self, facts: RunFacts, listing: RunListing, segment: SegmentName) -> PartAudit:
        told = {
            "has_copy": segment in listing.copies,
            "has_quarantine": segment in listing.quarantines,
            "is_last": listing.is_last(segment),
            "has_ended": self.totals.has_ended,
        }
        return self._retry_policy.retry(lambda: audit_part(self.store, facts, segment, **told))

    def _audit_image(self, facts: RunFacts, claim: ImageClaim) -> ImageAudit:
        return self._retry_policy.retry(lambda: audit_image(self.store, claim, facts.image_format))

    def _images_of(self, parts: Iterable[PartAudit], facts: RunFacts, retries: RetryAudit) -> Iterator[ImageClaim]:
        """Images of parts as they come, while their rows are counted."""
        coverage, before = RowCoverage(facts, self._found, has_ended=self.totals.has_ended), None
        for part in parts:
            coverage.take(part)
            self.totals.num_failed += part.num_failed
            if part.segment.retry:
                retries.check(part, before)
                if before is not None and before.segment.segment == part.segment.segment:
                    self.totals.num_failed -= before.num_failed
            self._all_found(part.findings)
            self.totals.num_parts += 1
            self.totals.num_done += part.num_done
            before = part
            yield from part.images
        coverage.end()
        self.totals.num_left = coverage.num_left

    def _find_orphans(self, listing: RunListing, present: Counter[int]) -> None:
        """Look closer at shards that have more images than their parts refer to."""
        for shard in sorted(listing.num_images):
            if listing.num_images[shard] == present[shard]:
                continue
            referenced = self._referenced(listing.parts_of(shard))
            if referenced is not None:
                keys = sorted(self.store.list(f"images/{shard:07d}/"))
                for key in filterfalse(referenced.__contains__, keys):
                    self._orphan(key)

    def _referenced(self, segments: Iterable[SegmentName]) -> set[str] | None:
        """Keys that these parts refer to; None if one cannot be read, so that nobody knows what it needs."""
        referenced: set[str] = set()
        for segment in segments:
            keys = self._retry_policy.retry(partial(image_keys, self.store, segment))
            if keys is None:
                return None
            referenced |= keys
        return referenced

    def _check_success(self) -> None:
        """``_SUCCESS`` is there and has the totals of the parts."""
        expected = {"rows_done": self.totals.num_done, "rows_failed": self.totals.num_failed}
        try:
            text = self._retry_policy.retry(lambda: self.store.get("_SUCCESS"))
        except ObjectNotFound:
            self._found(Finding("_SUCCESS", "object", "the totals of a run that has ended", "nothing"))
            return
        try:
            found = json.loads(text)
        except ValueError:
            self._found(Finding("_SUCCESS", "content", json.dumps(expected), text.decode(errors="backslashreplace")))
            return
        if not isinstance(found, dict) or {name: found.get(name) for name in expected} != expected:
            self._found(Finding("_SUCCESS", "totals", json.dumps(expected), json.dumps(found)))

    def _all_found(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self._found(finding)

    def _found(self, finding: Finding) -> None:
        self.totals.num_findings += 1
        self.tell(finding)

    def _orphan(self, key: str) -> None:
        self.totals.num_orphans += 1
        self.tell_orphan(key)


def _shard_of(image_key: str) -> int:
    return int(image_key.split("/")[1])
