"""The rows of an output, read from its parts: all of them for the counts, at most a given number to be shown."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from jobs.report.row import ReportRow
from jobs.report.statistics import RunStatistics
from manifests.parquet_reader import ParquetReader
from pipeline.ordered_map import ordered_map
from pipeline.part_name import PARTS_PREFIX, PartName, parts_by_segment
from pipeline.store import Store
from pipeline.store_errors import StoreError

_READ_THREADS = 4
_BATCH_ROWS = 1024


def read_rows(store: Store, statistics: RunStatistics, *, num_rows: int, max_rows: int) -> list[ReportRow]:
    """Count every committed row into ``statistics`` and return those to be shown, in row order.

    Args:
        store: Root of the output.
        statistics: Counts; filled here.
        num_rows: Of the whole run.
        max_rows: Where there are more rows, every n-th is returned, and every failure as far as there is room.

    Raises:
        StoreError: A part cannot be read; code ``DamagedPart`` if it is none.
    """
    stride = max(1, -(-num_rows // max_rows))
    shown: list[ReportRow] = []
    failures: list[ReportRow] = []
    segments = parts_by_segment(store.list(PARTS_PREFIX))
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        for rows in ordered_map(pool, lambda parts: _rows_of(store, parts), segments, window=2 * _READ_THREADS):
            for row in rows:
                statistics.add(row)
                if row.row % stride == 0:
                    shown.append(row)
                elif not row.is_done and len(failures) < max_rows // 4:
                    failures.append(row)
    return sorted([*shown, *failures], key=lambda row: row.row)


def _rows_of(store: Store, parts: tuple[PartName, ...]) -> list[ReportRow]:
    """The rows of a segment: finished ones of all its parts, failed ones of the last."""
    return [row for name in parts for row in _rows_of_part(store, name.key, is_last=name == parts[-1])]


def _rows_of_part(store: Store, key: str, *, is_last: bool) -> Iterator[ReportRow]:
    with store.open(key) as file:
        try:
            parquet = ParquetReader(file)
            for failure in json.loads(parquet.key_values[b"dimoo.failures"]):
                if is_last:
                    yield ReportRow.from_failure(failure)
            for record in parquet.rows(_BATCH_ROWS):
                yield ReportRow.from_part(record)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                "read", store.uri_of(key), "DamagedPart", "dimoo-batch verify says what is wrong"
            ) from error
