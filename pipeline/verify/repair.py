"""Damaged parts of a run, moved to where no reader looks, so that the next start makes their rows again.

Nothing is lost: objects are copied to ``_damaged/<epoch>/`` before they are removed. Which order of writes lets either
command resume after a crash: docs/durability.md.
"""

import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pipeline.errors import NotARun
from pipeline.ordered_map import ordered_map
from pipeline.output.directory import SUCCESS_KEY
from pipeline.output.epoch import RunEpoch
from pipeline.output.parts import FAILURES_PREFIX, PARTS_PREFIX, QUARANTINE_PREFIX, PartName
from pipeline.storage.base import Store
from pipeline.storage.errors import ObjectNotFound
from pipeline.storage.retry import RetryPolicy
from pipeline.verify.finding import Finding

DAMAGED_PREFIX = "_damaged/"
_MOVE_THREADS = 8
_PREFIXES = (PARTS_PREFIX, FAILURES_PREFIX, QUARANTINE_PREFIX)
_COPIES = ((FAILURES_PREFIX, ".parquet"), (QUARANTINE_PREFIX, ".json"))


class SetAside:
    """Gathers what findings are about, and moves it. One thread uses it; ``move`` may be called once.

    Attributes:
        folder: Where things go, a prefix that ends in ``/``.
    """

    def __init__(self, store: Store, epoch: RunEpoch) -> None:
        self.folder = f"{DAMAGED_PREFIX}{epoch.number:06d}/"
        self._store = store
        self._epoch = epoch
        self._retry_policy = RetryPolicy(threading.Event())
        self._is_needed = False
        self._segments: set[str] = set()
        self._single_keys: set[str] = set()
        self._foreign_parts: set[str] = set()

    def note(self, finding: Finding) -> None:
        """Take a finding in: all parts of its segment go, or a copy or strange file alone."""
        self._is_needed = True
        if finding.what == "dimoo.run":
            self._foreign_parts.add(finding.object)
        part = PartName.parse(finding.part or finding.object)
        if part is not None:
            self._segments.add(part.segment)
        elif finding.object.startswith(_PREFIXES) and finding.object not in _PREFIXES:
            self._single_keys.add(finding.object)

    def move(self, num_parts: int) -> int:
        """Take ``_SUCCESS`` away, then move everything that was noted; without findings nothing is done.

        Raises:
            NotARun: Most parts are of another run than ``run.json`` describes: it is not the parts that are wrong.
            RunSuperseded: A driver has taken over in between; what is moved stays moved.
        """
        if not self._is_needed:
            return 0
        if 2 * len(self._foreign_parts) > num_parts:
            raise NotARun(
                f"{len(self._foreign_parts)} of {num_parts} parts in {self._store.uri} are of another run than its "
                "run.json describes: nothing is set aside, put the run.json back that they were made with"
            )
        groups = self._groups()
        self._retry_policy.retry(partial(self._remove, SUCCESS_KEY))
        with ThreadPoolExecutor(_MOVE_THREADS) as pool:
            for _ in ordered_map(pool, self._move, groups, window=2 * _MOVE_THREADS):
                self._epoch.check()
        return len(self._segments)

    def _groups(self) -> list[Sequence[str]]:
        """Objects that go together, in the order in which they are removed: a segment's last part first, then copies.

        A segment that is half moved is then as it was before its last retries, not one whose first part is missing.
        """
        parts: defaultdict[str, list[PartName]] = defaultdict(list)
        for key in self._store.list(PARTS_PREFIX):
            if (name := PartName.parse(key)) is not None and name.segment in self._segments:
                parts[name.segment].append(name)
        copies: defaultdict[str, list[str]] = defaultdict(list)
        for prefix, suffix in _COPIES:
            for key in self._store.list(prefix):
                if (name := PartName.parse(key, prefix, suffix)) is not None and name.segment in self._segments:
                    copies[name.segment].append(key)
        groups: list[Sequence[str]] = [
            [*(part.key for part in sorted(parts[segment], reverse=True)), *copies[segment]]
            for segment in sorted(self._segments)
        ]
        return [*groups, *([key] for key in sorted(self._single_keys.difference(*copies.values())))]

    def _move(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._retry_policy.retry(partial(self._copy, key))
        for key in keys:
            self._retry_policy.retry(partial(self._remove, key))

    def _copy(self, key: str) -> None:
        try:
            data = self._store.get(key)
        except ObjectNotFound:  # a finding may be that it is missing
            return
        self._store.put(f"{self.folder}{key}", data)

    def _remove(self, key: str) -> None:
        """One try, fence included: a store that throttles is waited for so long that another may take over."""
        self._epoch.fence.check()
        self._store.delete(key)
