"""The rules of the output: one part a segment, created once, whatever was there before and whoever comes second."""

import datetime
import decimal
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline.worker.worker
from dimoo_core.checkpoint.load import Model
from manifests.errors import RowFailure
from pipeline.output.results import part_bytes
from pipeline.storage.errors import StoreError
from tests.support.manifest_rows import SCHEMA, encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.six_rows import IDS, write_six_rows
from tests.support.six_rows import run_in_twos as run

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_six_rows(tmp_path)


def test_a_run_leaves_parts_failures_images_its_description_and_success(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rows = [image_row("a/b ü"), image_row("bad", width=33), text_row("text", encoded(picture(0)))]
    manifest = write_manifest(tmp_path / "manifest.parquet", rows)
    summary = run(manifest, tmp_path / "out", tiny_checkpoint)
    output = RunOutput(tmp_path / "out")
    assert output.keys() == [
        "_SUCCESS",
        "_failures/0000000-00000.parquet",
        "images/0000000/0000000000-a%2Fb%20%C3%BC.png",
        "parts/0000000-00000.parquet",
        "parts/0000000-00001.parquet",
        "run.json",
    ]
    output.check_complete(["a/b ü", "bad", "text"])
    assert (summary.status, summary.rows, summary.done, summary.failed) == ("done_with_failures", 3, 2, 1)
    assert json.loads(output.store.get("run.json"))["rows"] == 3


def test_a_finished_run_does_nothing_and_reports_the_same_totals(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(manifest, tmp_path / "out", tiny_checkpoint)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "parts").iterdir()}
    monkeypatch.setattr("pipeline.worker.worker.load_model", None)
    second = run(manifest, tmp_path / "out", tiny_checkpoint)
    assert (second.done, second.failed, second.rows) == (first.done, first.failed, first.rows) == (4, 2, 6)
    assert second.resumed == 6
    assert second.tokens == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "parts").iterdir()}


def test_only_what_is_missing_is_done_again(manifest: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "out", tiny_checkpoint)
    output = RunOutput(tmp_path / "out")
    results = output.results()
    untouched = output.store.get("parts/0000000-00000.parquet")
    for key in ("_SUCCESS", "parts/0000000-00001.parquet"):
        output.store.delete(key)
    summary = run(manifest, tmp_path / "out", tiny_checkpoint)
    assert (summary.resumed, summary.done, summary.failed) == (4, 4, 2)
    assert output.store.get("parts/0000000-00000.parquet") == untouched
    output.check_complete(IDS)
    assert output.results() == results


def test_failures_that_a_crash_kept_from_their_file_are_written_by_the_next_start(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run(manifest, tmp_path / "out", tiny_checkpoint)
    output = RunOutput(tmp_path / "out")
    failures = {key: output.store.get(key) for key in output.keys("_failures/")}
    assert len(failures) == 2
    for key in failures:
        output.store.delete(key)
    run(manifest, tmp_path / "out", tiny_checkpoint)
    assert {key: output.store.get(key) for key in output.keys("_failures/")} == failures


def test_a_part_that_another_worker_committed_first_stands_and_is_counted(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one got it in after this start had listed the parts, and was killed before it wrote the failures."""
    failures = [RowFailure(row, f"row{row}", "generate", "Other", "failed elsewhere") for row in (2, 3)]
    foreign = part_bytes(failures, pq.read_table(manifest).slice(2, 2), 2, writer="another", run="r")
    output = RunOutput(tmp_path / "out")

    load_model = pipeline.worker.worker.load_model

    def commit_and_load(*args: Any, **options: Any) -> Model:
        output.store.put("parts/0000000-00001.parquet", foreign)
        return load_model(*args, **options)

    monkeypatch.setattr("pipeline.worker.worker.load_model", commit_and_load)
    summary = run(manifest, tmp_path / "out", tiny_checkpoint)
    assert (summary.done, summary.failed) == (2, 4)
    assert output.store.get("parts/0000000-00001.parquet") == foreign
    output.check_complete(IDS)
    assert output.failed_by_id()["row2"]["message"] == "failed elsewhere"


@pytest.mark.parametrize("segment_rows", [1, 2, 5, 100])
def test_results_do_not_depend_on_the_size_of_segments(
    segment_rows: int, manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run(manifest, tmp_path / "out", tiny_checkpoint, pipeline={"segment_rows": segment_rows})
    output = RunOutput(tmp_path / "out")
    output.check_complete(IDS)
    assert len(output.keys("parts/")) == -(-6 // segment_rows)
    assert [row["row"] for row in sorted(output.rows(), key=lambda row: row["id"])] == [0, 2, 3, 5]


def test_fewer_rows_in_flight_than_a_segment_has_are_enough(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    spec = {"segment_rows": 6, "max_rows_in_flight": 1, "fetch_threads": 1, "store_threads": 1}
    run(manifest, tmp_path / "out", tiny_checkpoint, pipeline=spec)
    RunOutput(tmp_path / "out").check_complete(IDS)


def test_an_empty_manifest_is_done_at_once(tiny_checkpoint: Path, tmp_path: Path) -> None:
    summary = run(write_manifest(tmp_path / "empty.parquet", []), tmp_path / "out", tiny_checkpoint)
    assert (summary.status, summary.rows, summary.done, summary.failed) == ("done", 0, 0, 0)
    output = RunOutput(tmp_path / "out")
    assert output.keys() == ["_SUCCESS", "run.json"]
    assert output.success() == {"rows_done": 0, "rows_failed": 0}


def test_rows_of_several_files_are_numbered_through(tiny_checkpoint: Path, tmp_path: Path) -> None:
    image = encoded(picture(0))
    for number, names in enumerate([["a", "b", "c"], [], ["d"], ["e", "f"]]):
        write_manifest(tmp_path / "manifest" / f"{number}.parquet", [text_row(name, image) for name in names])
    run(tmp_path / "manifest", tmp_path / "out", tiny_checkpoint)
    output = RunOutput(tmp_path / "out")
    output.check_complete("abcdef")
    assert {row["id"]: row["row"] for row in output.rows()} == {name: row for row, name in enumerate("abcdef")}


def test_a_limit_takes_the_first_rows(manifest: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "out", tiny_checkpoint, limit=3)
    RunOutput(tmp_path / "out").check_complete(IDS[:3])


def test_a_segment_in_which_every_row_failed_has_a_part_of_the_same_columns(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    rows = [text_row("bad", b"no image"), text_row("worse", b"no image"), text_row("good", encoded(picture(0)))]
    run(write_manifest(tmp_path / "manifest.parquet", rows), tmp_path / "out", tiny_checkpoint)
    parts = [pq.read_table(tmp_path / "out" / "parts" / f"0000000-0000{number}.parquet") for number in (0, 1)]
    assert [part.num_rows for part in parts] == [0, 1]
    assert parts[0].schema.equals(parts[1].schema)
    RunOutput(tmp_path / "out").check_complete(["bad", "worse", "good"])


def test_columns_that_pass_through_keep_their_values_and_types(tiny_checkpoint: Path, tmp_path: Path) -> None:
    nested = pa.struct([("tags", pa.list_(pa.string())), ("box", pa.list_(pa.float32(), 2))])
    extra = {
        "nested": pa.array([{"tags": ["x", None], "box": [0.5, 1.0]}, None, {"tags": [], "box": None}], nested),
        "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int8())),
        "time": pa.array([1, None, 3], pa.timestamp("ns", "Europe/Berlin")),
        "day": pa.array([datetime.date(2024, 2, 29), None, None], pa.date32()),
        "price": pa.array([decimal.Decimal("1.20"), None, decimal.Decimal("-9.99")], pa.decimal128(9, 2)),
        "kind": pa.array(["cat", "dog", "cat"]).dictionary_encode(),
        "view": pa.array(["a", None, "b"], pa.string_view()),
        "large": pa.array([b"1", b"22", None], pa.large_binary()),
        "none": pa.nulls(3),
    }
    rows = [text_row("a", encoded(picture(0))), text_row("bad", b"no image"), text_row("c", encoded(picture(0)))]
    manifest = pa.Table.from_pylist(rows, schema=SCHEMA)
    for name, column in extra.items():
        manifest = manifest.append_column(name, column)
    pq.write_table(manifest, tmp_path / "manifest.parquet")
    read = pq.read_table(tmp_path / "manifest.parquet")
    run(tmp_path / "manifest.parquet", tmp_path / "out", tiny_checkpoint, pipeline={"segment_rows": 3})
    part = pq.read_table(tmp_path / "out" / "parts" / "0000000-00000.parquet")
    for name in extra:
        assert part.schema.field(name).type == read.schema.field(name).type, name
        assert part.slice(0, 1).column(name).equals(read.slice(0, 1).column(name)), name
        assert part.slice(1, 1).column(name).equals(read.slice(2, 1).column(name)), name


def test_a_damaged_part_is_named(manifest: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "out", tiny_checkpoint)
    (tmp_path / "out" / "parts" / "0000000-00001.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(StoreError, match=r"parts/0000000-00001\.parquet: DamagedPart"):
        run(manifest, tmp_path / "out", tiny_checkpoint)


def test_a_part_of_another_program_is_named(manifest: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "out", tiny_checkpoint)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": ["x"]}), buffer)
    (tmp_path / "out" / "parts" / "0000000-00001.parquet").write_bytes(buffer.getvalue())
    with pytest.raises(StoreError, match="DamagedPart"):
        run(manifest, tmp_path / "out", tiny_checkpoint)
