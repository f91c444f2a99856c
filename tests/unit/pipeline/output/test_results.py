"""Open segments, and the Parquet part that their outcomes become."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import RowFailure
from manifests.files.plan import Segment
from manifests.schema import OUTPUT_COLUMNS
from pipeline.output.results import (
    DONE_SCHEMA,
    FAILURE_SCHEMA,
    PartSummary,
    RowResult,
    RowSuccess,
    RunTotals,
    failures_bytes,
    part_bytes,
    part_summary,
)
from pipeline.output.retries import SegmentRetry
from pipeline.protocol.messages import Lease
from pipeline.worker.segment import OpenSegment


def done(row: int, **values: Any) -> RowSuccess:
    return RowSuccess(
        **{
            "row": row,
            "id": f"id{row}",
            "task": "vqa",
            "prompt": "What?",
            "output": None,
            "text": f"answer {row}",
            "width": None,
            "height": None,
            "steps": 8,
            "cfg_scale": 0.0,
            "temperature": 0.5,
            "seed": 2**63 - 1,
            "preset": "exact",
            "num_tokens": 3,
            "finish_reason": "stop",
            "sha256": None,
            "bytes": None,
        }
        | values
    )


def failed(row: int, message: str = "no image") -> RowFailure:
    return RowFailure(row, f"id{row}", "decode", "ImageUnreadable", message)


def open_segment(first_row: int, num_rows: int) -> OpenSegment:
    rows = pa.table({"id": [f"id{first_row + index}" for index in range(num_rows)], "note": list(range(num_rows))})
    return OpenSegment(Lease(Segment(0, 0, "m.parquet", first_row, 0, num_rows)), rows)


def read(part: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(part))


def test_the_last_result_completes_a_segment_in_whatever_order_they_come() -> None:
    segment = open_segment(10, 3)
    assert [segment.add(row_result) for row_result in (done(12), failed(10), done(11))] == [False, False, True]
    assert [row_result.row for row_result in segment.row_results()] == [10, 11, 12]


def test_a_row_has_one_result() -> None:
    segment = open_segment(0, 3)
    segment.add(done(1))
    with pytest.raises(ValueError, match="row 1 has two outcomes"):
        segment.add(failed(1))


def test_of_many_threads_exactly_one_completes_a_segment() -> None:
    num_rows = 16
    for _ in range(50):
        segment, gate = open_segment(0, num_rows), threading.Barrier(num_rows)

        def add(row: int, segment: OpenSegment = segment, gate: threading.Barrier = gate) -> bool:
            gate.wait(timeout=30)
            return segment.add(done(row))

        with ThreadPoolExecutor(num_rows) as pool:
            assert sum(pool.map(add, range(num_rows))) == 1


def test_a_part_has_the_finished_rows_in_row_order_and_what_passes_through() -> None:
    segment = open_segment(5, 4)
    table = read(part_bytes([done(8), failed(7), done(5), failed(6)], segment.rows, 5, writer="w", run="r"))
    assert table.column("row").to_pylist() == [5, 8]
    assert table.column("text").to_pylist() == ["answer 5", "answer 8"]
    assert table.column("note").to_pylist() == [0, 3]
    assert table.column_names == [*DONE_SCHEMA.names, "note"]


def test_parts_have_the_same_columns_whatever_became_of_their_rows() -> None:
    rows = open_segment(0, 2).rows
    schemas = [
        read(part_bytes(row_results, rows, 0, writer="w", run="r")).schema
        for row_results in ([done(0), done(1)], [failed(0), done(1)], [failed(0), failed(1)])
    ]
    assert schemas[0].equals(schemas[1])
    assert schemas[0].equals(schemas[2])


def test_metadata_of_a_part_tell_its_counts_and_failures() -> None:
    failures = (failed(1, "größe\n'\"\\ 🦤"), failed(2, ""))
    part = part_bytes([done(0), *failures], open_segment(0, 3).rows, 0, writer="w", run="r")
    summary = part_summary(pq.read_metadata(io.BytesIO(part)).metadata)
    assert summary == PartSummary(1, failures)
    assert summary.totals == RunTotals(1, 2)


def test_a_failure_is_recorded_with_the_rows_extra_columns() -> None:
    segment = open_segment(5, 2)
    segment.add(failed(6))
    segment.add(done(5))
    (failure,) = [row_result for row_result in segment.row_results() if isinstance(row_result, RowFailure)]
    assert failure.columns == '{"note": 1}'
    part = part_bytes(segment.row_results(), segment.rows, 5, writer="w", run="r")
    assert part_summary(pq.read_metadata(io.BytesIO(part)).metadata).failures == (failure,)
    assert read(failures_bytes([failure])).column("columns").to_pylist() == ['{"note": 1}']


def test_failures_that_were_recorded_without_columns_stay_as_they_are() -> None:
    part = part_bytes([failed(0)], open_segment(0, 1).rows, 0, writer="w", run="r")
    metadata = pq.read_metadata(io.BytesIO(part)).metadata
    assert b"columns" not in metadata[b"dimoo.failures"]
    (kept,) = part_summary(metadata).failures
    lease = replace(open_segment(0, 1).lease, retry=SegmentRetry(1, ("timeout",), 0, 1))
    assert OpenSegment(lease, open_segment(0, 1).rows, [kept]).row_results() == [kept]


def test_parts_of_two_writers_differ_and_of_one_do_not() -> None:
    rows, row_results = open_segment(0, 1).rows, [done(0)]
    assert part_bytes(row_results, rows, 0, writer="a", run="r") == part_bytes(
        row_results, rows, 0, writer="a", run="r"
    )
    assert part_bytes(row_results, rows, 0, writer="a", run="r") != part_bytes(
        row_results, rows, 0, writer="b", run="r"
    )


@pytest.mark.parametrize("row_results", [[], [done(0)], [done(0), done(0)], [done(0), done(2)], [done(1), done(2)]])
def test_a_part_needs_one_result_for_each_row(row_results: list[RowResult]) -> None:
    with pytest.raises(ValueError, match="one outcome a row"):
        part_bytes(row_results, open_segment(0, 2).rows, 0, writer="w", run="r")


@given(
    rows=st.lists(st.tuples(st.booleans(), st.one_of(st.none(), st.text(), st.lists(st.integers(0, 9)))), max_size=12),
    first_row=st.integers(0, 2**40),
)
def test_every_row_is_found_again_with_its_own_values(rows: list[tuple[bool, Any]], first_row: int) -> None:
    texts = [value if isinstance(value, str) else None for _, value in rows]
    lists = [value if isinstance(value, list) else None for _, value in rows]
    table = pa.table({"text_in": pa.array(texts, pa.string_view()), "list": pa.array(lists, pa.list_(pa.int8()))})
    row_results = [
        done(first_row + index) if is_done else failed(first_row + index) for index, (is_done, _) in enumerate(rows)
    ]
    part = part_bytes(row_results, table, first_row, writer="w", run="r")
    kept = [index for index, (is_done, _) in enumerate(rows) if is_done]
    found = read(part).to_pylist()
    assert [row["row"] for row in found] == [first_row + index for index in kept]
    assert [(row["text_in"], row["list"]) for row in found] == [(texts[index], lists[index]) for index in kept]
    failures = part_summary(pq.read_metadata(io.BytesIO(part)).metadata).failures
    assert [failure.row for failure in failures] == [
        first_row + index for index in range(len(rows)) if index not in kept
    ]


def test_failures_have_a_file_of_their_own() -> None:
    table = read(failures_bytes([failed(3), failed(4)]))
    assert table.schema.equals(FAILURE_SCHEMA)
    assert table.column("row").to_pylist() == [3, 4]


def test_metadata_of_other_files_are_refused() -> None:
    for metadata in (None, {}, {b"dimoo.format": b"99"}):
        with pytest.raises(ValueError, match="not a part"):
            part_summary(metadata)


def test_columns_of_a_part_are_reserved_in_manifests() -> None:
    assert set(DONE_SCHEMA.names) == set(OUTPUT_COLUMNS)


def test_totals_add_up() -> None:
    assert sum([RunTotals(1, 2), RunTotals(3, 4)], RunTotals()) == RunTotals(4, 6)


def test_a_damaged_page_of_a_part_is_noticed_by_who_checks() -> None:
    whole = part_bytes([done(0)], pa.table({"note": [1]}), 0, writer="w", run="r")
    at = whole.index(b"\x28\xb5\x2f\xfd") + 12  # inside the first compressed page
    damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    pq.read_table(io.BytesIO(whole), page_checksum_verification=True)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(io.BytesIO(damaged), page_checksum_verification=True)
