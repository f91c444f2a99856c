"""Progress of a run, from its store alone: what is committed, and what its driver noted last."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal

from jobs.text import duration
from pipeline.ordered_map import thread_map
from pipeline.output.directory import SUCCESS_KEY, RunDirectory
from pipeline.output.epoch import SILENCE_S, EpochReport, read_epoch_reports
from pipeline.output.parts import PARTS_PREFIX
from pipeline.output.retries import RetryRecords
from pipeline.storage.base import Store
from pipeline.storage.reader import open_store
from pipeline.verify.facts import read_run_facts

MAX_PARTS_READ = 5_000
"""More are counted as noted: each is a request or two, and a run of 10^8 rows has millions."""
_READ_THREADS = 16


@dataclass(frozen=True, slots=True)
class CommittedRows:
    """Committed rows by what became of them; ``failures`` by stage and error, empty where they are only noted."""

    done: int
    failed: int
    failures: Counter[str]
    is_noted: bool


def count_committed(
    store: Store, num_rows: int, reports: Sequence[EpochReport], max_parts: int | None
) -> CommittedRows:
    """Count them.

    Args:
        num_rows: Of the whole run.
        max_parts: Most parts that are read; None: all there are.
    """
    run = RunDirectory(store)
    if max_parts is not None and any(True for _ in islice(store.list(PARTS_PREFIX), max_parts, None)):
        noted = _noted(run, num_rows, reports)
        if noted is not None:
            return noted
    return _read(run)


def _noted(run: RunDirectory, num_rows: int, reports: Sequence[EpochReport]) -> CommittedRows | None:
    if (totals := run.totals_at_end()) is not None:
        return CommittedRows(totals.num_done, totals.num_failed, Counter(), is_noted=True)
    # A retry of failed rows notes its own rows alone.
    note = next((report.note for report in reversed(reports) if report.note.get("rows") == num_rows), {})
    if not {"committed", "failed"} <= note.keys():
        return None
    failed = int(note["failed"])
    return CommittedRows(int(note["committed"]) - failed, failed, Counter(), is_noted=True)


def _read(run: RunDirectory) -> CommittedRows:
    """From the metadata of every part."""
    num_done, failures = 0, Counter[str]()
    for summary in thread_map(run.summary, run.last_parts(), num_threads=_READ_THREADS):
        num_done += summary.num_done
        failures.update(f"{failure.stage}: {failure.error_type}" for failure in summary.failures)
    return CommittedRows(num_done, failures.total(), failures, is_noted=False)


State = Literal["complete", "running", "silent", "stopped", "not started"]
_MEANINGS: dict[State, str] = {
    "complete": "every row has a result",
    "running": "a driver is at work",
    "silent": "the driver did not report its end and sends no heartbeat: re-run the same command to resume",
    "stopped": "no driver is at work: re-run the same command to resume",
    "not started": "no driver has begun to work: run it with the command that it was prepared with",
}
_MEANINGS_IN_RETRY: dict[State, str] = {
    "complete": "every row has a result, but {retry} was interrupted; resume it: {command}",
    "running": "a driver is at work, {retry} has begun and not ended",
    "silent": "the driver of {retry} did not report its end and sends no heartbeat; resume it: {command}",
    "stopped": "{retry} was interrupted; resume it: {command}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run at one moment.

    ``done`` and ``failed`` are committed rows; ``in_flight`` had their result and waited for their segment when the
    driver noted so; rows that engines are at work on are not among them. ``retry`` is the number and ``retry_classes``
    the classes of a retry that has begun and not ended; None and empty otherwise. ``rows_per_s``, ``eta_s``,
    ``eta_error_s``, how far that may be off, and ``workers`` are the driver's, and None or empty when none is at work;
    the ETA is None too while the driver has not seen enough to estimate it. ``heard_s_ago`` depends on two clocks:
    the driver's and this machine's. ``is_noted``: there are so many parts that counts are those of the run's last note
    or of its end, not of the parts themselves.
    """

    output: str
    state: State
    rows: int
    done: int
    failed: int
    left: int
    in_flight: int
    failures: dict[str, int]
    rows_per_s: float | None
    eta_s: float | None
    eta_error_s: float | None
    driver: str | None
    heard_s_ago: float | None
    starts: int
    retry: int | None = None
    retry_classes: list[str] = field(default_factory=list)
    is_noted: bool = False
    workers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def _meaning(self) -> str:
        if self.retry is None or self.state not in _MEANINGS_IN_RETRY:
            return _MEANINGS[self.state]
        classes = "".join(f" --class {name}" for name in self.retry_classes)
        command = f"dimoo-batch retry {self.output}{classes}"
        return _MEANINGS_IN_RETRY[self.state].format(retry=f"retry {self.retry}", command=command)

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.output}: {self.state}, {self._meaning}"
        share = (self.done + self.failed) / self.rows if self.rows else 1.0
        yield f"  rows      {self.done} done, {self.failed} failed, {self.left} left of {self.rows} ({share:.1%})"
        if self.is_noted:
            yield "            as last noted by the driver; --exact counts the parts"
        for name, count in self.failures.items():
            yield f"            {count} failed with {name}"
        if self.rows_per_s is not None:
            eta = f", ETA {duration(self.eta_s)}" if self.eta_s is not None else ""
            around = f" ± {duration(self.eta_error_s)}" if eta and self.eta_error_s is not None else ""
            waiting = f", {self.in_flight} rows finished and not committed yet" if self.in_flight else ""
            yield f"  rate      {self.rows_per_s:.2f} rows/s{eta}{around}{waiting}"
        if self.driver is not None and self.heard_s_ago is not None:
            yield f"  driver    {self.driver}, start {self.starts}, last heartbeat {self.heard_s_ago:.0f} s ago"
        for worker in self.workers:
            busy = worker.get("engine_busy_ratio")
            shown = f", engine busy {busy:.0%}" if busy is not None else ""
            heard = f"last heartbeat {worker['heard_s_ago']:.0f} s before"
            yield f"  {worker['name']:<9} {worker['state']}, {worker['rows']} rows, {heard}{shown}"


def read_status(output: str, *, now: datetime | None = None, max_parts: int | None = MAX_PARTS_READ) -> RunStatus:
    """Look at a run; nothing is changed, and no other machine is asked than the store.

    Args:
        output: Where the run writes.
        now: For tests.
        max_parts: Most parts that are read to count rows; None: all there are.

    Raises:
        ConfigError: The URI cannot be opened.
        NotARun: No run is there.
        StoreError: The store cannot be read.
    """
    now = now or datetime.now(UTC)
    with closing(open_store(output)) as store:
        facts = read_run_facts(store)
        reports = read_epoch_reports(store)
        counted = count_committed(store, facts.num_rows, reports, max_parts)
        latest = reports[-1] if reports else None
        heard_at = (latest.heard_at or latest.claimed_at) if latest else None  # a start that has just begun has claimed
        heard_s = (now - heard_at).total_seconds() if heard_at else None
        state = _state(store, latest, heard_s)
        left = max(0, facts.num_rows - counted.done - counted.failed)
        note = latest.note if latest and state == "running" else {}
        rate = float(note["rows_per_s"]) if note.get("rows_per_s") else None
        can_tell = note.get("eta_error_s", 0.0) is not None  # drivers of earlier versions noted it late, or not at all
        retry = RetryRecords(store).latest()
        if retry is not None and retry.has_ended:
            retry = None
        ahead = int(note.get("settled", 0)) - int(note.get("committed", 0))  # of one moment, which parts are not
        in_flight = max(0, ahead)
        return RunStatus(
            output=store.uri,
            state=state,
            rows=facts.num_rows,
            done=counted.done,
            failed=counted.failed,
            left=left,
            in_flight=in_flight,
            failures=dict(counted.failures.most_common()),
            rows_per_s=rate,
            eta_s=math.ceil(max(0, left - in_flight) / rate) if rate and can_tell else None,
            eta_error_s=note.get("eta_error_s"),
            driver=latest.owner if latest else None,
            heard_s_ago=max(0.0, round(heard_s, 1)) if heard_s is not None else None,
            starts=len(reports),
            retry=retry.number if retry else None,
            retry_classes=list(retry.classes) if retry else [],
            is_noted=counted.is_noted,
            workers=list(note.get("workers", [])),
        )


def _state(store: Store, latest: EpochReport | None, heard_s: float | None) -> State:
    if store.size(SUCCESS_KEY) is not None:
        return "complete"
    if latest is None:
        return "not started"
    if latest.has_ended:
        return "stopped"
    return "running" if heard_s is not None and heard_s < 2 * SILENCE_S else "silent"
