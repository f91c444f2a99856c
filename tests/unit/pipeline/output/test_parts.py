import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.files.plan import ManifestFile, ShardPlan, plan_shards
from pipeline.output.parts import SegmentSet


def plan_of(*file_rows: int) -> ShardPlan:
    files = [ManifestFile(f"{number}.parquet", 1, rows, "d") for number, rows in enumerate(file_rows)]
    return plan_shards(files, shard_rows=6, segment_rows=2)


@given(st.lists(st.integers(0, 40), max_size=4), st.sets(st.integers(0, 79)))
def test_it_holds_what_was_added_in_row_order(file_rows: list[int], chosen: set[int]) -> None:
    plan = plan_of(*file_rows)
    numbers = [number for number in range(plan.num_segments) if number in chosen]
    names = [plan.segment(number).name for number in numbers]
    segments = SegmentSet(plan, reversed(names))
    assert [segment.name for segment in segments] == names
    assert [segment.name for segment in segments.missing()] == [each.name for each in plan if each.name not in names]
    assert (len(segments), segments.num_missing) == (len(names), plan.num_segments - len(names))
    assert all((segment.name in segments) == (segment.name in names) for segment in plan)


def test_adding_again_changes_nothing() -> None:
    segments = SegmentSet(plan_of(10))
    assert segments.add("0000000-00001")
    assert not segments.add("0000000-00001")
    assert len(segments) == 1


@pytest.mark.parametrize("name", ["0000000-00003", "0000001-00002", "0000002-00000", "0-1", "", "0000000-00001 "])
def test_names_of_no_segment_are_refused(name: str) -> None:
    segments = SegmentSet(plan_of(10))
    assert name not in segments
    with pytest.raises(KeyError):
        segments.add(name)


def test_a_bit_for_each_segment_is_all_that_is_kept() -> None:
    plan = plan_shards([ManifestFile("m.parquet", 1, 10**8, "d")], shard_rows=64 * 128, segment_rows=64)
    segments = SegmentSet(plan, (plan.segment(number).name for number in range(0, plan.num_segments, 10_000)))
    assert len(segments._bits) == 195_313
