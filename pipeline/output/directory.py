"""Where everything of a run is in its store, and the rules by which it is written.

``parts/`` is the only truth. A part is created if absent, once for each segment and each retry of its failed rows,
after everything it refers to; what is not in a part does not exist for a reader. ``_failures/`` repeats what the parts'
metadata hold, for people; ``run.json`` describes the run, ``_SUCCESS`` marks it complete.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from dimoo_core.errors import ConfigError
from manifests.errors import RowFailure
from manifests.files.plan import Segment, ShardPlan
from pipeline.errors import NotARun
from pipeline.ordered_map import ordered_map
from pipeline.output.failures import CopyCheck, FailureCopies
from pipeline.output.parts import FAILURES_PREFIX, PARTS_PREFIX, CommittedSegments, PartName
from pipeline.output.results import PartSummary, RunTotals, part_summary
from pipeline.output.retries import RETRIES_PREFIX
from pipeline.storage.base import Store, json_bytes
from pipeline.storage.errors import ObjectNotFound, StoreError

RUN_KEY = "run.json"
SUCCESS_KEY = "_SUCCESS"
_RUN_STYLE = {"indent": 2, "ensure_ascii": False, "sort_keys": True}
_MAX_ID_IN_NAME = 100
_MAX_STRANGE_KEYS = 5
_READ_THREADS = 16
_READ_AHEAD = 4 * _READ_THREADS


class PartOrigin(NamedTuple):
    """The ``results_digest`` of the run that a segment's own part is of, and how many rows it has."""

    run_digest: str
    num_rows: int


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

    def commit(self, name: PartName, part: bytes, summary: PartSummary) -> PartSummary:
        """Publish a part; until this is done its rows do not exist for any reader.

        If another attempt has published it before, that one stands and this one leaves no trace. That attempt may
        have been killed right afterwards, so its failures are repeated here all the same.

        Args:
            part: Its bytes, different from those of every other attempt.
        """
        is_ours = self.store.put_if_absent(name.key, part)
        standing = summary if is_ours else self._part_summary(name)
        if is_ours or self.store.size(PartName(name.segment, name.retry + 1).key) is None:
            FailureCopies(self.store).write(name, standing.failures)
        return standing

    def has_parts(self) -> bool:
        """Whether anything was committed here, by whatever run."""
        return any(PartName.parse(key) for key in self.store.list(PARTS_PREFIX))

    def first_origin(self) -> PartOrigin | None:
        """The run's description in the first readable part; None if no part is readable."""
        for name in sorted(part for part in self._parts() if not part.retry):
            with suppress(ObjectNotFound, pa.ArrowInvalid, ValueError, KeyError), self.store.open(name.key) as file:
                metadata = pq.read_metadata(file).metadata or {}
                totals = part_summary(metadata).totals
                return PartOrigin(metadata[b"dimoo.run"].decode(), totals.num_done + totals.num_failed)
        return None

    def last_parts(self) -> Iterator[PartName]:
        """The last part of each segment that is done, in no order; for those who have no plan."""
        retries: dict[str, int] = {}
        if any(True for _ in self.store.list(RETRIES_PREFIX)):
            for name in self._parts():
                if name.retry:
                    retries[name.segment] = max(name.retry, retries.get(name.segment, 0))
        for name in self._parts():
            if not name.retry:
                yield PartName(name.segment, retries.get(name.segment, 0))

    def committed_segments(self, plan: ShardPlan) -> CommittedSegments:
        """The segments that are done.

        Raises:
            ConfigError: A part is that of no segment of the plan, or of a retry of one whose first part is missing.
        """
        strange_keys: list[str] = []
        try:
            committed = CommittedSegments.of(plan, self._parts(strange_keys))
        except KeyError as error:
            name = PartName.parse(str(error.args[0]), "", "")
            uri = self.store.uri_of(f"{PARTS_PREFIX}{error.args[0]}.parquet")
            if name is not None and plan.number_of(name.segment) is not None:
                missing = PartName(name.segment).key
                raise ConfigError(f"{uri} is there without {missing} before it: {self._remedy()}") from error
            raise ConfigError(
                f"{uri} belongs to no rows of this manifest, yet readers take it for results: move it away"
            ) from error
        committed.strange_keys += strange_keys
        return committed

    def strange_parts(self, committed: CommittedSegments) -> str | None:
        """A line about objects among the parts that are none, which do no harm here; None if there are none."""
        if not committed.strange_keys:
            return None
        shown = ", ".join(map(self.store.uri_of, committed.strange_keys))
        return f"readers of {PARTS_PREFIX} take for results what is not of this run: move it away: {shown}"

    def summary(self, last: PartName) -> PartSummary:
        """What a segment holds whose last part this is: finished rows of all its parts, failures of the last.

        Reads the parts' metadata alone.

        Raises:
            StoreError: Code ``DamagedPart`` if one is no readable part, ``MissingPart`` if it is not there.
        """
        summary = self._part_summary(last)
        num_done = sum(self._part_summary(name).num_done for name in last.earlier)
        return PartSummary(num_done + summary.num_done, summary.failures, summary.retry)

    def totals(
        self, committed: CommittedSegments, look: Callable[[Segment, PartSummary], None] | None = None
    ) -> RunTotals:
        """Rows of these segments; failures that a crash kept from ``_failures/`` are written there now.

        Reads many parts at once, and keeps of them what is counted: memory does not grow with their number.

        Raises:
            StoreError: Codes as of ``summary``, and ``DamagedPart`` if a segment has too few or too many rows.
        """
        copies = CopyCheck(self.store, committed)

        def count(segment: Segment) -> tuple[Segment, PartSummary]:
            summary = self.summary(committed.last_part(segment.name))
            self._check_whole(segment, summary)
            copies.complete(segment.name, summary.failures)
            return segment, summary

        totals = RunTotals()
        with ThreadPoolExecutor(_READ_THREADS) as pool:
            for segment, summary in ordered_map(pool, count, committed, window=_READ_AHEAD):
                totals += summary.totals
                if look is not None:
                    look(segment, summary)
        return totals

    def failures(self) -> Iterator[RowFailure]:
        """Failed rows in their order, from the parts; their copies only show which parts to read."""
        for key in sorted(self.store.list(FAILURES_PREFIX)):
            name = PartName.parse(key, FAILURES_PREFIX)
            if name is None or self.store.size(PartName(name.segment, name.retry + 1).key) is not None:
                continue
            if self.store.size(name.key) is not None:
                yield from self._part_summary(name).failures

    def _parts(self, strange_keys: list[str] | None = None) -> Iterator[PartName]:
        for key in self.store.list(PARTS_PREFIX):
            if (name := PartName.parse(key)) is not None:
                yield name
            elif strange_keys is not None and len(strange_keys) < _MAX_STRANGE_KEYS:
                strange_keys.append(key)

    def _check_whole(self, segment: Segment, summary: PartSummary) -> None:
        num_rows = summary.num_done + len(summary.failures)
        if num_rows != segment.num_rows:
            uri, hint = self.store.uri_of(PartName(segment.name).key), self._remedy()
            told = f"it has results of {num_rows} rows, its segment has {segment.num_rows}: {hint}"
            raise StoreError("read", uri, "DamagedPart", told)

    def _remedy(self) -> str:
        command = f"dimoo-batch verify {self.store.uri} --set-aside"
        return f"{command}, then the run command again"

    def _part_summary(self, name: PartName) -> PartSummary:
        uri = self.store.uri_of(name.key)
        try:
            with self.store.open(name.key) as file:
                return part_summary(pq.read_metadata(file).metadata)
        except ObjectNotFound as error:
            raise StoreError("read", uri, "MissingPart", self._remedy()) from error
        except (pa.ArrowInvalid, ValueError, KeyError) as error:
            raise StoreError("read", uri, "DamagedPart", f"not a part of this run: {self._remedy()}") from error

    def start(self, description: Mapping[str, Any]) -> dict[str, Any]:
        """Write ``run.json`` if this is the first start; return it as it stands."""
        if self.store.put_if_absent(RUN_KEY, json_bytes(description, **_RUN_STYLE)):
            return dict(description)
        found = self.description()
        if found is None:
            raise StoreError("read", self.store.uri_of(RUN_KEY), "ObjectFlickers", "it was there a moment ago", True)
        return found

    def note_changes(self, description: Mapping[str, Any], changes: Sequence[str]) -> None:
        """Write into ``run.json`` that the run continued with changed settings; ``results`` stays as it is."""
        noted = [*description.get("accepted_changes", []), *changes]
        described = {**description, "accepted_changes": list(dict.fromkeys(noted))}
        if described != description:
            self.store.put_json(RUN_KEY, described, **_RUN_STYLE)

    def description(self) -> dict[str, Any] | None:
        """``run.json``; None if no run was started here."""
        try:
            found = json.loads(self.store.get(RUN_KEY))
        except ObjectNotFound:
            return None
        except ValueError as error:
            raise ConfigError(f"{self.store.uri_of(RUN_KEY)} is not the description of a run: {error}") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{self.store.uri_of(RUN_KEY)} is not the description of a run")
        return found

    def known_description(self) -> dict[str, Any]:
        """As ``description``, of a run that must be here.

        Raises:
            NotARun: No run is here.
        """
        found = self.description()
        if found is None:
            raise NotARun(f"{self.store.uri} is not the output of a run: it has no run.json")
        return found

    def succeed(self, totals: RunTotals) -> None:
        """Write ``_SUCCESS``: every row of the manifest has its result."""
        self.store.put_json(SUCCESS_KEY, {"rows_done": totals.num_done, "rows_failed": totals.num_failed})

    def totals_at_end(self) -> RunTotals | None:
        """The totals in ``_SUCCESS``; None while the run has not ended, or if it cannot be read as such."""
        try:
            found = json.loads(self.store.get(SUCCESS_KEY))
            return RunTotals(int(found["rows_done"]), int(found["rows_failed"]))
        except (ObjectNotFound, ValueError, KeyError, TypeError):
            return None

    def reopen(self) -> None:
        """Take ``_SUCCESS`` away, before rows that failed are run again."""
        self.store.delete(SUCCESS_KEY)


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
