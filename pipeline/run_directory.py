"""Where everything of a run lies in its store, and the rules by which it is written.

``parts/`` is the only truth. A part is created if absent, once for each segment, after everything it refers to; what
is not in a part does not exist for a reader. ``_failures/`` repeats what the parts' metadata say, for people;
``run.json`` says what the run is, ``_SUCCESS`` that it is complete.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from dimoo_core.errors import ConfigError
from manifests.row import RowFailure
from manifests.shard import Segment, ShardPlan
from pipeline.errors import ObjectNotFound, StoreError
from pipeline.ordered_map import ordered_map
from pipeline.outcome import PartSummary, RunTotals, failures_bytes, part_summary
from pipeline.segment_set import SegmentSet
from pipeline.store import Store

RUN_KEY = "run.json"
SUCCESS_KEY = "_SUCCESS"
PARTS_PREFIX = "parts/"
FAILURES_PREFIX = "_failures/"
QUARANTINE_PREFIX = "_quarantine/"
_PART = re.compile(r"parts/(?P<segment>\d+-\d+)\.parquet")
_COPY = re.compile(r"_failures/(?P<segment>\d+-\d+)\.parquet")
_MAX_ID_IN_NAME = 100
_READ_THREADS = 16
_READ_AHEAD = 4 * _READ_THREADS


class RunDirectory:
    """The layout of one run. Threads may share it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def image_key(self, segment: Segment, row: int, row_id: str, suffix: str, number: int = 0) -> str:
        """Where a row's ``number``-th image goes.

        The row's number makes it unique, its id (escaped) makes it findable; images after the first add their number.
        """
        name = f"{row:010d}-{quote(row_id, safe='')[:_MAX_ID_IN_NAME]}{f'-{number}' if number else ''}"
        return f"images/{segment.shard:07d}/{name}{suffix}"

    def commit(self, segment: Segment, part: bytes, summary: PartSummary) -> RunTotals:
        """Publish a segment; until this is done its rows do not exist for any reader.

        If another attempt has published it before, that one stands and this one leaves no trace. That attempt may
        have been killed right afterwards, so its failures are repeated here all the same.

        Args:
            segment: Which one.
            part: Its bytes, different from those of every other attempt.
            summary: What ``part`` holds.

        Returns:
            Rows of the part that stands.
        """
        is_ours = self.store.put_if_absent(_part_key(segment.name), part)
        standing = summary if is_ours else self.summary(segment.name)
        self._write_failures(segment.name, standing.failures)
        return standing.totals

    def _write_failures(self, segment_name: str, failures: tuple[RowFailure, ...]) -> None:
        if failures:
            self.store.put(f"{FAILURES_PREFIX}{segment_name}.parquet", failures_bytes(failures))

    def quarantine(self, segment: Segment, failures: Sequence[RowFailure]) -> None:
        """Say of rows that killed their workers why they are not run any more; the part repeats it."""
        text = json.dumps([asdict(failure) for failure in failures], indent=2, ensure_ascii=False) + "\n"
        self.store.put(f"{QUARANTINE_PREFIX}{segment.name}.json", text.encode(), content_type="application/json")

    def has_parts(self) -> bool:
        """Whether anything was committed here, by whatever run."""
        return any(_PART.fullmatch(key) for key in self.store.list(PARTS_PREFIX))

    def segment_names(self) -> Iterator[str]:
        """Names of the segments that are done, in no order; for those who have no plan."""
        for key in self.store.list(PARTS_PREFIX):
            if match := _PART.fullmatch(key):
                yield match["segment"]

    def committed_segments(self, plan: ShardPlan) -> SegmentSet:
        """The segments that are done.

        Raises:
            ConfigError: A part is that of no segment of the plan.
        """
        committed = SegmentSet(plan)
        for key in self.store.list(PARTS_PREFIX):
            if match := _PART.fullmatch(key):
                try:
                    committed.add(match["segment"])
                except KeyError as error:
                    raise ConfigError(
                        f"{self.store.uri_of(key)} belongs to no rows of this manifest, yet readers take it for "
                        "results: move it away"
                    ) from error
        return committed

    def summary(self, segment_name: str) -> PartSummary:
        """What a committed segment holds, from the part's metadata alone.

        Raises:
            StoreError: Code ``DamagedPart`` if it is no readable part.
        """
        key = _part_key(segment_name)
        with self.store.open(key) as file:
            try:
                return part_summary(pq.read_metadata(file).metadata)
            except (pa.ArrowInvalid, ValueError, KeyError) as error:
                raise StoreError("read", self.store.uri_of(key), "DamagedPart", "not a part of this run") from error

    def totals(self, segments: SegmentSet) -> RunTotals:
        """Rows of these segments; failures that a crash kept from ``_failures/`` are written there now.

        Reads many parts at once, and keeps of them what is counted: memory does not grow with their number.
        """
        copied = SegmentSet(segments.plan)
        for key in self.store.list(FAILURES_PREFIX):
            if (match := _COPY.fullmatch(key)) and match["segment"] in segments:
                copied.add(match["segment"])

        def count(segment: Segment) -> RunTotals:
            summary = self.summary(segment.name)
            if summary.failures and segment.name not in copied:
                self._write_failures(segment.name, summary.failures)
            return summary.totals

        with ThreadPoolExecutor(_READ_THREADS) as pool:
            counted = ordered_map(pool, count, segments, window=_READ_AHEAD)
            return sum(counted, RunTotals())

    def start(self, description: Mapping[str, Any]) -> dict[str, Any]:
        """Write ``run.json`` if this is the first start; return it as it stands."""
        text = json.dumps(description, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        if self.store.put_if_absent(RUN_KEY, text.encode()):
            return dict(description)
        found = self.description()
        if found is None:
            raise StoreError("read", self.store.uri_of(RUN_KEY), "ObjectFlickers", "it was there a moment ago", True)
        return found

    def note_changes(self, description: Mapping[str, Any], changes: Sequence[str]) -> None:
        """Write into ``run.json`` that the run went on although settings differed; ``results`` stays as it is."""
        noted = [*description.get("accepted_changes", []), *changes]
        described = {**description, "accepted_changes": list(dict.fromkeys(noted))}
        text = json.dumps(described, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        if described != description:
            self.store.put(RUN_KEY, text.encode(), content_type="application/json")

    def description(self) -> dict[str, Any] | None:
        """``run.json``; None if no run was started here.

        Raises:
            ConfigError: If something else lies there.
        """
        try:
            found = json.loads(self.store.get(RUN_KEY))
        except ObjectNotFound:
            return None
        except ValueError as error:
            raise ConfigError(f"{self.store.uri_of(RUN_KEY)} is not the description of a run: {error}") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{self.store.uri_of(RUN_KEY)} is not the description of a run")
        return found

    def succeed(self, totals: RunTotals) -> None:
        """Write ``_SUCCESS``: every row of the manifest has its outcome."""
        text = json.dumps({"rows_done": totals.num_done, "rows_failed": totals.num_failed}) + "\n"
        self.store.put(SUCCESS_KEY, text.encode(), content_type="application/json")


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Leaves in which two nested descriptions differ, as ``key: found here, asked for now``."""
    lines: list[str] = []
    for key in sorted({*expected, *found}):
        ours, theirs = expected.get(key), found.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            lines += differences(ours, theirs, f"{prefix}{key}.")
        elif ours != theirs:
            lines.append(f"{prefix}{key}: {theirs!r} there, {ours!r} now")
    return lines


def results_digest(results: Mapping[str, Any]) -> str:
    """32 hexadecimal digits that change with anything that decides results; JSON with sorted keys, without spaces."""
    text = json.dumps(results, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _part_key(segment_name: str) -> str:
    return f"{PARTS_PREFIX}{segment_name}.parquet"
