import pickle
import tracemalloc
from itertools import groupby, islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimoo_core.errors import ConfigError
from manifests.errors import ManifestError
from manifests.files.plan import ManifestFile, Segment, ShardPlan, fingerprint, plan_shards


def files_of(*num_rows: int) -> list[ManifestFile]:
    return [ManifestFile(f"s3://in/{index}.parquet", 1000, rows, "digest") for index, rows in enumerate(num_rows)]


PLANS = st.builds(
    lambda rows, shard_rows, segment_rows, limit: (rows, shard_rows, segment_rows, limit),
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(1, 30),
    st.integers(1, 12),
    st.none() | st.integers(0, 150),
)


@given(drawn=PLANS)
def test_segments_partition_the_rows_in_order(drawn: tuple[list[int], int, int, int | None]) -> None:
    rows, shard_rows, segment_rows, limit = drawn
    plan = plan_shards(files_of(*rows), shard_rows=shard_rows, segment_rows=segment_rows, limit=limit)
    places = [(file, row) for file, num_rows in enumerate(rows) for row in range(num_rows)][:limit]
    planned = [
        (
            int(Path(segment.file_uri).stem),
            segment.file_row + offset,
            segment.first_row + offset,
        )
        for segment in plan
        for offset in range(segment.num_rows)
    ]
    assert planned == [(*place, index) for index, place in enumerate(places)]
    assert plan.num_rows == len(places)
    assert all(1 <= segment.num_rows <= segment_rows for segment in plan)


@given(drawn=PLANS, other=st.from_regex(r"[0-9]{7}-[0-9]{5}", fullmatch=True))
def test_segments_are_found_by_their_names(drawn: tuple[list[int], int, int, int | None], other: str) -> None:
    rows, shard_rows, segment_rows, limit = drawn
    plan = plan_shards(files_of(*rows), shard_rows=shard_rows, segment_rows=segment_rows, limit=limit)
    names = [segment.name for segment in plan]
    assert [plan.number_of(name) for name in names] == list(range(plan.num_segments))
    near = [f"{shard:07d}-{index:05d}" for shard in range(plan.num_shards + 1) for index in range(14)]
    assert all(plan.number_of(name) is None for name in [other, *near] if name not in names)


@given(drawn=PLANS)
def test_shards_partition_the_segments_and_never_span_two_files(
    drawn: tuple[list[int], int, int, int | None],
) -> None:
    rows, shard_rows, segment_rows, limit = drawn
    plan = plan_shards(files_of(*rows), shard_rows=shard_rows, segment_rows=segment_rows, limit=limit)
    by_shard = {shard: list(found) for shard, found in groupby(plan, key=lambda segment: segment.shard)}
    assert list(by_shard) == list(range(plan.num_shards))
    assert plan.num_segments == len(plan) == len(list(plan))
    for segments in by_shard.values():
        assert [segment.index for segment in segments] == list(range(len(segments)))
        assert len({segment.file_uri for segment in segments}) == 1
        assert segments[0].file_row % plan.shard_rows == 0
        assert sum(segment.num_rows for segment in segments) <= plan.shard_rows


@given(drawn=PLANS)
def test_names_are_unique_and_sort_like_the_rows(drawn: tuple[list[int], int, int, int | None]) -> None:
    rows, shard_rows, segment_rows, limit = drawn
    plan = plan_shards(files_of(*rows), shard_rows=shard_rows, segment_rows=segment_rows, limit=limit)
    names = [segment.name for segment in plan]
    assert names == sorted(set(names))


def test_a_name_does_not_depend_on_the_size_of_the_manifest() -> None:
    small, large = (plan_shards(files_of(rows), shard_rows=8, segment_rows=4) for rows in (40, 40_000_000))
    assert small.segment(7).name == large.segment(7).name == "0000003-00001"
    assert large.segment(large.num_segments - 1).name == "4999999-00001"


def test_shards_are_rounded_up_to_whole_segments() -> None:
    plan = plan_shards(files_of(100), shard_rows=10, segment_rows=4)
    assert (plan.shard_rows, plan.segment_rows) == (12, 4)
    assert [segment.shard for segment in plan] == [shard for shard in range(9) for _ in range(3)][:25]


def test_planning_a_hundred_million_rows_takes_no_memory_for_rows() -> None:
    tracemalloc.start()
    try:
        plan = plan_shards(files_of(*[1_000_000] * 100), shard_rows=4096, segment_rows=64)
        assert plan.num_rows == 100_000_000
        assert plan.num_segments == 100 * 15625
        assert sum(1 for _ in islice(plan, 20_000)) == 20_000
        last = plan.segment(plan.num_segments - 1)
        assert last.first_row + last.num_rows == 100_000_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("number", [-1, 25])
def test_a_segment_that_is_not_there_is_an_index_error(number: int) -> None:
    plan = plan_shards(files_of(100), shard_rows=4, segment_rows=4)
    with pytest.raises(IndexError):
        plan.segment(number)
    with pytest.raises(IndexError):
        plan_shards([], shard_rows=4, segment_rows=4).segment(0)


@pytest.mark.parametrize(
    ("shard_rows", "segment_rows", "limit", "message"),
    [
        (0, 1, None, "shard_rows must be at least 1, got 0"),
        (1, -1, None, "segment_rows must be at least 1, got -1"),
        (1, 1, -1, "limit must be at least 0, got -1"),
        (200_000, 1, None, "shard_rows must be at most 100000 segments"),
    ],
)
def test_sizes_that_cannot_be_planned_are_refused(
    shard_rows: int, segment_rows: int, limit: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_shards(files_of(1), shard_rows=shard_rows, segment_rows=segment_rows, limit=limit)


def test_more_shards_than_names_are_refused_with_the_fix() -> None:
    with pytest.raises(ManifestError, match=r"has 100000000 shards of 1 rows, .*: raise shard_rows"):
        plan_shards(files_of(10**8), shard_rows=1, segment_rows=1)


def test_plans_and_segments_travel_between_processes() -> None:
    plan = plan_shards(files_of(10, 0, 7), shard_rows=4, segment_rows=2)
    copy: ShardPlan = pickle.loads(pickle.dumps(plan))
    assert list(copy) == list(plan)
    assert copy.segment(4) == Segment(2, 0, "s3://in/0.parquet", 8, 8, 2) != copy.segment(5)


def test_the_fingerprint_changes_with_content_and_order_but_not_with_the_folder() -> None:
    file, other = ManifestFile("s3://a/x.parquet", 10, 3, "d1"), ManifestFile("s3://a/y.parquet", 10, 3, "d1")
    moved = ManifestFile("/data/x.parquet", 10, 3, "d1")
    assert fingerprint([file, other]) == fingerprint([moved, other])
    changed = [
        [],
        [file],
        [file, other],
        [other, file],
        [file, file],
        [ManifestFile(file.uri, 11, 3, "d1")],
        [ManifestFile(file.uri, 10, 4, "d1")],
        [ManifestFile(file.uri, 10, 3, "d2")],
    ]
    assert len({fingerprint(files) for files in changed}) == len(changed)
