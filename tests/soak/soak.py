"""Runs under faults until enough faults have happened, and what the store holds of each in the end."""

import gc
import hashlib
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from pipeline.storage.base import Store
from pipeline.storage.reader import open_store
from pipeline.verify.audit import RunAudit
from tests.soak.fault import FaultLog
from tests.soak.point import Phase
from tests.soak.soak_rows import NUM_ROWS, rows_done, write_soak_manifest
from tests.soak.start import MAX_FAULTY_STARTS, Start, fork_and_run

Calm = Callable[[], AbstractContextManager[None]]
"""Makes a store without faults, for the check of what is there."""

_THREAD_END_S = 30.0
_ENDS = (0, 1, -signal.SIGKILL)
"""How a start may end: done, told why not, killed by a fault."""


@dataclass
class SoakTotals:
    """All must be 0 but the first four."""

    runs: int = 0
    starts: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    duplicated: int = 0
    unaccounted: int = 0
    misjudged: int = 0
    without_success: int = 0
    changed_results: int = 0
    strange_ends: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def num_faults(self) -> int:
        return self.faults.total()

    @property
    def is_clean(self) -> bool:
        bad = self.lost + self.duplicated + self.unaccounted + self.misjudged
        return bad + self.without_success + self.changed_results == 0 and not self.strange_ends and not self.findings


class Soak:
    """Runs of one manifest, each at an output of its own, each followed by a retry of its failed rows."""

    def __init__(self, folder: Path, seed: int, *, output_root: str, spoils: bool, calm: Calm = nullcontext) -> None:
        _import_what_runs_need()
        self._manifest = write_soak_manifest(folder / "m.parquet")
        self._output_root = output_root
        self._seed = seed
        self._spoils = spoils
        self._calm = calm
        self._log = FaultLog(folder / "faults")
        self._notes = FaultLog(folder / "notes")
        self.totals = SoakTotals()
        self._results: dict[str, str] = {}

    def run_one(self) -> None:
        """One run and its retry, each started again until it ends, and checked."""
        number = self.totals.runs
        output = f"{self._output_root}/{self._seed}-{number}"
        phases: tuple[Phase, ...] = ("run", "retry")
        for phase in phases:
            self._start_until_it_ends(number, phase, output)
            with self._calm(), closing(open_store(output)) as store:
                self._check(number, phase, store)
        self.totals.runs += 1
        self.totals.faults, self.totals.notes = self._log.counts(), self._notes.counts()

    def _start_until_it_ends(self, number: int, phase: Phase, output: str) -> None:
        for start_number in range(MAX_FAULTY_STARTS + 2):
            start = Start(
                self._seed, number, phase, start_number, self._manifest, output, self._log, self._notes, self._spoils
            )
            self.totals.starts += 1
            status = fork_and_run(start)
            is_undisturbed = self._spoils and not start.is_faulty
            if status not in _ENDS or (is_undisturbed and status != 0):
                self.totals.strange_ends.append(f"{phase} {number}, start {start_number}: {status}")
            if status == 0 and not start.is_run_instead:
                return

    def _check(self, number: int, phase: Phase, store: Store) -> None:
        totals = self.totals
        if "_SUCCESS" not in set(store.list("_SUCCESS")):
            totals.without_success += 1
        done = _rows(store, "parts/")
        counts = Counter(row["row"] for row in [*done, *_rows(store, "_failures/")])
        totals.lost += sum(counts[row] == 0 for row in range(NUM_ROWS))
        totals.duplicated += sum(count - 1 for count in counts.values() if count > 1)
        totals.unaccounted += sum(row not in range(NUM_ROWS) for row in counts)
        totals.misjudged += len({row["row"] for row in done} ^ rows_done(phase))
        for row in done:
            data = store.get(row["output"]) if row["output"] is not None else row["text"].encode()
            digest = hashlib.sha256(data).hexdigest()
            totals.changed_results += self._results.setdefault(row["id"], digest) != digest

        def find(finding: object) -> None:
            totals.findings.append(f"{phase} {number}: {finding}")

        if not RunAudit(store, find, lambda key: None).run().has_ended:
            find("the run has not ended")
        for thread in threading.enumerate():
            if thread is not threading.main_thread():  # one that lost the race of a hedged read
                thread.join(_THREAD_END_S)
        assert threading.active_count() == 1, "a copy of a process with threads may hang"


def _import_what_runs_need() -> None:
    """Once for all copies of this process."""
    import pyarrow.compute  # noqa: F401
    import rich.progress  # noqa: F401

    Image.init()
    gc.collect()
    gc.freeze()


def _rows(store: Store, prefix: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for key in store.list(prefix):
        with store.open(key) as file:
            rows += pq.ParquetFile(file).read(use_threads=False).to_pylist()
    return rows
