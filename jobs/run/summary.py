"""What a finished run or retry reports: one JSON object for programs, a few lines for people."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Literal

from jobs.run.retry_plan import DEFAULT_CLASSES
from jobs.text import duration, pluralize
from pipeline.output.directory import RunDirectory
from pipeline.output.parts import FAILURES_PREFIX, PARTS_PREFIX
from pipeline.storage.base import Store
from pipeline.storage.reader import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """RowResult of one start of a run.

    ``rows`` counts the whole manifest (or the limit), ``resumed`` those that earlier starts had committed, ``failures``
    the failed ones by their class. ``rows_per_s`` is of the rows of this start, since the first worker had its model
    loaded: unlike ``wall_s`` it is without what comes before and after.
    ``engine_busy_ratio`` is the share of time, between each worker's first and last step, in which its engine worked,
    in [0, 1]; ``engine_wait_ratio`` is the share in which no row was ready for it. What is left to 1 was spent between
    steps. ``cache_hit_ratio`` is the share of the steps' tokens that were not computed since an earlier step had. All
    three are None if no step was run. ``cost_usd`` is that of the workers, if the job sets what an hour costs.
    """

    status: Literal["done", "done_with_failures"]
    output: str
    rows: int
    done: int
    failed: int
    failures: dict[str, int]
    resumed: int
    wall_s: float
    rows_per_s: float
    engine_busy_ratio: float | None
    engine_wait_ratio: float | None
    tokens: int
    cache_hit_ratio: float | None
    cost_usd: float | None
    workers_lost: int

    @property
    def exit_code(self) -> int:
        """0: every row is done; 3: some failed."""
        return 0 if self.failed == 0 else 3


_IMAGES_PREFIX = "images/"
_MAX_SHOWN_FAILURES = 5


def summary_lines(summary: RunSummary) -> Iterator[str]:
    """What was done, where it is, the first failures, and what to do next."""
    yield from result_lines(summary)
    yield from next_lines(summary)


def result_lines(summary: RunSummary) -> Iterator[str]:
    """What was done, where it is, and the first failures."""
    store = open_store(summary.output)
    resumed = f" ({summary.resumed} committed by earlier starts)" if summary.resumed else ""
    rate = [f"{summary.rows_per_s:.2f} rows/s"] if summary.rows_per_s else []
    busy = [f"engine busy {summary.engine_busy_ratio:.0%}"] if summary.engine_busy_ratio is not None else []
    speed = f" ({', '.join([*rate, *busy])})" if rate else ""  # without a row in this start there is none
    done = pluralize(summary.done, "row")
    yield f"{done} done, {summary.failed} failed{resumed}, in {duration(summary.wall_s)}{speed}"
    if any(True for _ in store.list(_IMAGES_PREFIX)):
        yield f"  images             {store.uri_of(_IMAGES_PREFIX)}"
    yield f"  texts and metadata {store.uri_of(PARTS_PREFIX)}*.parquet"
    if summary.failed:
        yield f"  failures           {store.uri_of(FAILURES_PREFIX)}*.parquet"
        if named := "".join(f" --class {name}" for name in summary.failures if name not in DEFAULT_CLASSES):
            yield f"  fix the cause, then: dimoo-batch retry {shlex.quote(summary.output)}{named}"
        yield from _first_failures(store, summary.failed)


def next_lines(summary: RunSummary) -> Iterator[str]:
    """Commands that come next."""
    output = shlex.quote(summary.output)
    yield f"next: dimoo-batch report {output}"
    worth = ", ".join(f"{count} {name}" for name in DEFAULT_CLASSES if (count := summary.failures.get(name)))
    if worth:
        yield f"next: dimoo-batch retry {output}  # these may succeed on another attempt: {worth}"


def _first_failures(store: Store, num_failed: int) -> Iterator[str]:
    for failure in islice(RunDirectory(store).failures(), _MAX_SHOWN_FAILURES):
        yield f"    row {failure.row} ({failure.id}), {failure.stage}: {failure.message}"
    if num_failed > _MAX_SHOWN_FAILURES:
        yield f"    … and {num_failed - _MAX_SHOWN_FAILURES} more"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySummary:
    """RowResult of one start of a retry.

    Attributes:
        run: Counts of the whole run as it is now.
        retry: Number of the retry; 0 if there was nothing to run again.
        classes: Of failures that were tried again.
        retried: Rows that this start ran again.
        mended: Those of them that are done now.
        kept: Failed rows that were not asked for, by their class.
        left: Rows of segments that the run has not committed yet.
    """

    run: RunSummary
    retry: int
    classes: tuple[str, ...]
    retried: int
    mended: int
    kept: dict[str, int]
    left: int

    @property
    def exit_code(self) -> int:
        """0: every row is done; 3: some are still failed, or were never run."""
        return 0 if self.run.exit_code == 0 and not self.left else 3

    def to_json(self) -> dict[str, object]:
        """For standard output."""
        of_retry = asdict(self)
        of_run: dict[str, object] = of_retry.pop("run")
        return of_run | of_retry | {"status": "incomplete" if self.left else self.run.status}

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.retried:
            yield f"retry {self.retry}: {self.mended} of {pluralize(self.retried, 'failed row')} now done"
        yield from result_lines(replace(self.run, resumed=0))  # a row may have results of several starts
        if self.left:
            yield f"  {pluralize(self.left, 'row')} not run yet: re-run the run command to resume"
        else:
            yield from next_lines(self.run)
