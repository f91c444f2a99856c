import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dimoo_core.errors import ConfigError
from manifests.errors import RowFailure
from manifests.files.plan import ManifestFile, Segment, plan_shards
from pipeline.output.directory import RunDirectory, differences
from pipeline.output.parts import PartName
from pipeline.output.results import PartSummary, RunTotals, part_bytes
from pipeline.storage.errors import StoreError
from pipeline.storage.local import LocalStore

SEGMENT = Segment(3, 7, "m.parquet", 40, 0, 2)
NAME = PartName("0000003-00007")
PLAN = plan_shards([ManifestFile("m.parquet", 1, 100, "d")], shard_rows=20, segment_rows=2)
ROWS = pa.table({"id": ["a", "b"]})
FAILURES = (RowFailure(40, "a", "fetch", "E", "gone"), RowFailure(41, "b", "fetch", "E", "gone"))
SUMMARY = PartSummary(0, FAILURES)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(LocalStore(str(tmp_path / "out")))


def part(writer: str) -> bytes:
    return part_bytes(FAILURES, ROWS, 40, writer=writer, run="r")


def committed(run: RunDirectory) -> list[str]:
    return [segment.name for segment in run.committed_segments(PLAN)]


def test_a_commit_publishes_the_part_and_repeats_its_failures(run: RunDirectory) -> None:
    assert committed(run) == []
    assert run.commit(NAME, part("one"), SUMMARY) == SUMMARY
    assert committed(run) == ["0000003-00007"]
    assert run.summary(NAME) == SUMMARY
    failures = pq.read_table(io.BytesIO(run.store.get("_failures/0000003-00007.parquet"))).to_pylist()
    assert [failure["row"] for failure in failures] == [40, 41]


def test_the_first_commit_stands_and_its_totals_count(run: RunDirectory) -> None:
    run.commit(NAME, part("one"), SUMMARY)
    assert run.commit(NAME, part("two"), PartSummary(2, ())) == SUMMARY
    assert run.store.get("parts/0000003-00007.parquet") == part("one")


def test_the_second_commit_repeats_the_failures_of_a_first_that_was_killed_in_between(run: RunDirectory) -> None:
    run.store.put("parts/0000003-00007.parquet", part("killed"))
    run.commit(NAME, part("two"), PartSummary(2, ()))
    assert run.store.size("_failures/0000003-00007.parquet")


def test_a_commit_without_failures_leaves_no_file_for_them(run: RunDirectory) -> None:
    run.commit(NAME, part("one"), PartSummary(2, ()))
    assert list(run.store.list("_failures/")) == []


def test_totals_write_the_failures_that_are_not_there(run: RunDirectory) -> None:
    run.commit(NAME, part("one"), SUMMARY)
    written = run.store.get("_failures/0000003-00007.parquet")
    run.store.delete("_failures/0000003-00007.parquet")
    assert run.totals(run.committed_segments(PLAN)) == RunTotals(0, 2)
    assert run.store.get("_failures/0000003-00007.parquet") == written


def test_only_parts_count_as_segments(run: RunDirectory) -> None:
    for key in ("parts/readme.txt", "parts/x-1.parquet", "parts/0000000-00001.parquet.bak", "parts/a/0-1.parquet"):
        run.store.put(key, b"x")
    assert committed(run) == []


@pytest.mark.parametrize("name", ["0000005-00000", "0000000-00010", "1-1"])
def test_a_part_of_no_rows_of_the_manifest_is_refused_by_name(name: str, run: RunDirectory) -> None:
    run.store.put(f"parts/{name}.parquet", b"x")
    with pytest.raises(ConfigError, match=rf"parts/{name}\.parquet belongs to no rows of this manifest"):
        run.committed_segments(PLAN)


def test_the_first_part_is_enough_to_know_that_there_are_some(run: RunDirectory) -> None:
    run.store.put("parts/readme.txt", b"x")
    assert not run.has_parts()
    run.store.put("parts/0000009-00001.parquet", b"x")
    assert run.has_parts()


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1 and so on PAR1"])
def test_a_damaged_part_is_an_error_that_names_it(data: bytes, run: RunDirectory) -> None:
    run.store.put("parts/0000000-00000.parquet", data)
    with pytest.raises(StoreError, match=r"parts/0000000-00000\.parquet: DamagedPart") as caught:
        run.totals(run.committed_segments(PLAN))
    assert not caught.value.retryable


def test_further_images_of_a_row_add_their_number(run: RunDirectory) -> None:
    keys = [run.image_key(SEGMENT, 3, "a", ".png", number) for number in range(3)]
    assert [key.rsplit("/", 1)[1] for key in keys] == ["0000000003-a.png", "0000000003-a-1.png", "0000000003-a-2.png"]


def test_image_keys_are_unique_by_row_and_findable_by_id(run: RunDirectory) -> None:
    def key(row: int, row_id: str) -> str:
        return run.image_key(SEGMENT, row, row_id, ".png")

    assert key(40, "boat") == "images/0000003/0000000040-boat.png"
    assert key(40, "a/b ü") == "images/0000003/0000000040-a%2Fb%20%C3%BC.png"
    assert key(40, "x" * 500) != key(41, "x" * 500)
    for row_id in ("..", ".tmp-", "\\", "ü" * 500, "a\0b", "%"):
        run.store.put(key(40, row_id), b"x")


def test_the_first_start_describes_the_run_and_later_ones_read_it(run: RunDirectory) -> None:
    assert run.description() is None
    assert run.start({"results": {"seed": 1}}) == {"results": {"seed": 1}}
    assert run.start({"results": {"seed": 2}}) == {"results": {"seed": 1}}
    assert run.description() == {"results": {"seed": 1}}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff"])
def test_another_run_json_is_refused(data: bytes, run: RunDirectory) -> None:
    run.store.put("run.json", data)
    with pytest.raises(ConfigError, match=r"run\.json is not the description of a run"):
        run.description()


def test_success_tells_the_totals(run: RunDirectory) -> None:
    run.succeed(RunTotals(5, 2))
    assert json.loads(run.store.get("_SUCCESS")) == {"rows_done": 5, "rows_failed": 2}


def test_differences_are_listed_by_their_dotted_keys() -> None:
    now = {"seed": 1, "defaults": {"task": None, "text": {"steps": 8}}, "new": 1, "same": [1]}
    there = {"seed": 2, "defaults": {"task": "vqa", "text": {"steps": 8}}, "old": "x", "same": [1]}
    assert differences(now, there) == [
        "defaults.task: 'vqa' there, None now",
        "new: None there, 1 now",
        "old: 'x' there, None now",
        "seed: 2 there, 1 now",
    ]
    assert differences(now, now) == []


def test_a_section_against_a_value_is_a_difference() -> None:
    assert differences({"a": {"b": 1}}, {"a": 1}) == ["a: 1 there, {'b': 1} now"]
