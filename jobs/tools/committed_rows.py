"""How many rows of a run are committed: from its parts, or where these are too many from what was noted of them."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from pipeline.ordered_map import ordered_map
from pipeline.output.directory import RunDirectory
from pipeline.output.epoch import EpochReport
from pipeline.output.parts import PARTS_PREFIX
from pipeline.storage.base import Store

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
        store: Of the output.
        num_rows: Of the whole run.
        reports: What its starts noted, in order.
        max_parts: Most parts that are read; None: all there are.

    Raises:
        StoreError: The store cannot be read.
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
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        for summary in ordered_map(pool, run.summary, run.last_parts(), window=4 * _READ_THREADS):
            num_done += summary.num_done
            failures.update(f"{failure.stage}: {failure.error_type}" for failure in summary.failures)
    return CommittedRows(num_done, failures.total(), failures, is_noted=False)
