"""The lines that a person reads at the end of a run."""

import shlex
from collections.abc import Iterator
from itertools import islice

from jobs.counted import duration
from jobs.retry_backlog import DEFAULT_CLASSES
from jobs.summary import RunSummary
from pipeline.object_reader import open_store
from pipeline.part_name import FAILURES_PREFIX, PARTS_PREFIX
from pipeline.run_directory import RunDirectory
from pipeline.store import Store

_IMAGES_PREFIX = "images/"
_MAX_SHOWN_FAILURES = 5


def summary_lines(summary: RunSummary) -> Iterator[str]:
    """What was done, where it is, the first failures, and what to do next."""
    yield from result_lines(summary)
    yield from next_lines(summary)


def result_lines(summary: RunSummary) -> Iterator[str]:
    """What was done, where it is, and the first failures."""
    store = open_store(summary.output)
    resumed = f" ({summary.resumed} of these rows by earlier starts)" if summary.resumed else ""
    rate = [f"{summary.rows_per_s:.2f} rows/s"] if summary.rows_per_s else []
    busy = [f"engine busy {summary.engine_busy_ratio:.0%}"] if summary.engine_busy_ratio is not None else []
    speed = f" ({', '.join([*rate, *busy])})" if rate else ""  # without a row in this start there is none
    yield f"{summary.done} rows done, {summary.failed} failed{resumed}, in {duration(summary.wall_s)}{speed}"
    if any(True for _ in store.list(_IMAGES_PREFIX)):
        yield f"  images             {store.uri_of(_IMAGES_PREFIX)}"
    yield f"  texts and metadata {store.uri_of(PARTS_PREFIX)}*.parquet"
    if summary.failed:
        yield f"  failures           {store.uri_of(FAILURES_PREFIX)}*.parquet"
        yield f"  try them again     dimoo-batch retry {summary.output} --class CLASS, when its cause is mended"
        yield from _first_failures(store, summary.failed)


def next_lines(summary: RunSummary) -> Iterator[str]:
    """Commands that come next."""
    output = shlex.quote(summary.output)
    yield f"next: dimoo-batch report {output}"
    worth = ", ".join(f"{count} {name}" for name in DEFAULT_CLASSES if (count := summary.failures.get(name)))
    if worth:
        yield f"next: dimoo-batch retry {output}, since the same rows need not fail again: {worth}"


def _first_failures(store: Store, num_failed: int) -> Iterator[str]:
    for failure in islice(RunDirectory(store).failures(), _MAX_SHOWN_FAILURES):
        yield f"    row {failure.row} ({failure.id}), {failure.stage}: {failure.message}"
    if num_failed > _MAX_SHOWN_FAILURES:
        yield f"    … and {num_failed - _MAX_SHOWN_FAILURES} more"
