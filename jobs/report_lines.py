"""The lines that a person reads at the end of a run."""

from collections.abc import Iterator

from jobs.progress import duration
from jobs.summary import RunSummary
from manifests.parquet_reader import ParquetReader
from pipeline.part_name import FAILURES_PREFIX, PARTS_PREFIX
from pipeline.store import open_store

_IMAGES_PREFIX = "images/"
_MAX_SHOWN_FAILURES = 5


def summary_lines(summary: RunSummary) -> Iterator[str]:
    """What was done, where it is, and the first failures."""
    store = open_store(summary.output)
    resumed = f" ({summary.resumed} of these rows by earlier starts)" if summary.resumed else ""
    busy = f", engine busy {summary.engine_busy_ratio:.0%}" if summary.engine_busy_ratio is not None else ""
    yield (
        f"{summary.done} rows done, {summary.failed} failed{resumed}, in {duration(summary.wall_s)} "
        f"({summary.rows_per_s:.2f} rows/s{busy})"
    )
    if any(True for _ in store.list(_IMAGES_PREFIX)):
        yield f"  images             {store.uri_of(_IMAGES_PREFIX)}"
    yield f"  texts and metadata {store.uri_of(PARTS_PREFIX)}*.parquet"
    if not summary.failed:
        return
    yield f"  failures           {store.uri_of(FAILURES_PREFIX)}*.parquet"
    yield f"  try them again     dimoo-batch retry {summary.output} --class CLASS, when its cause is mended"
    shown = 0
    for key in sorted(store.list(FAILURES_PREFIX)):
        with store.open(key) as file:
            for failure in ParquetReader(file).rows(_MAX_SHOWN_FAILURES):
                if shown == _MAX_SHOWN_FAILURES:
                    yield f"    … and {summary.failed - shown} more"
                    return
                yield f"    row {failure['row']} ({failure['id']}), {failure['stage']}: {failure['message']}"
                shown += 1


def resume_hint(target: str) -> str:
    """How to go on after a stop."""
    return (
        f"rows committed so far are kept ({target}); run the same command again to go on, dimoo-batch status says how "
        "far it is"
    )
