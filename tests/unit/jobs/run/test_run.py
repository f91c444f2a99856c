"""Decisions at the start of a run, and what is said at its end."""

import json
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pytest

from dimoo_core.errors import ConfigError
from jobs.commands.support import resume_hint
from jobs.run import workers as workers_module
from jobs.run.identity import segment_rows_of
from jobs.run.resume import ResumeOptions
from jobs.run.run import conclude, run_job
from jobs.run.summary import RunSummary, summary_lines
from jobs.run.workers import known_address, ray_cluster
from jobs.spec.spec import load_spec
from manifests.errors import RowFailure
from manifests.files.plan import ManifestFile, plan_shards
from pipeline.errors import RunFailed
from pipeline.output.directory import RunDirectory
from pipeline.output.parts import PartName
from pipeline.output.results import PartSummary, RunTotals, part_bytes
from pipeline.storage.local import LocalStore
from tests.support.in_process import run_here
from tests.support.manifest_rows import SCHEMA, image_row, write_manifest
from tests.support.stub_model import use_stub_model


@pytest.mark.parametrize(
    ("num_rows", "num_workers", "segment_rows"),
    [(0, 0, 1), (1, 8, 1), (8, 0, 2), (8, 2, 1), (100, 2, 13), (256, 0, 64), (10**8, 64, 64)],
)
def test_segments_are_small_enough_that_every_worker_gets_some(
    num_rows: int, num_workers: int, segment_rows: int
) -> None:
    assert segment_rows_of(num_rows, num_workers, None) == segment_rows


def test_segments_stay_as_the_first_start_has_cut_them() -> None:
    assert segment_rows_of(10**6, 64, {"results": {"segment_rows": 5}}) == 5
    assert segment_rows_of(8, 2, {"results": {"segment_rows": "many"}}) == 1


def summary_of(output: object, failed: int, failures: dict[str, int] | None = None) -> RunSummary:
    return RunSummary(
        status="done_with_failures" if failed else "done",
        output=str(output),
        rows=10,
        done=10 - failed,
        failed=failed,
        failures=failures or {},
        resumed=3,
        wall_s=75.0,
        rows_per_s=1.25,
        engine_busy_ratio=0.987,
        engine_wait_ratio=0.009,
        tokens=1000,
        cache_hit_ratio=0.0,
        cost_usd=None,
        workers_lost=0,
    )


def test_a_summary_is_json_with_an_exit_status(tmp_path: Path) -> None:
    assert summary_of(tmp_path, 0).exit_code == 0
    assert summary_of(tmp_path, 1).exit_code == 3
    assert json.loads(json.dumps(asdict(summary_of(tmp_path, 0))))["engine_busy_ratio"] == 0.987


def test_what_is_said_at_the_end_names_the_places(tmp_path: Path) -> None:
    assert not any(line.startswith("  images") for line in summary_lines(summary_of(tmp_path, 0)))  # texts alone
    LocalStore(str(tmp_path)).put("images/0000000/0.png", b"")
    assert list(summary_lines(summary_of(tmp_path, 0))) == [
        "10 rows done, 0 failed (3 committed by earlier starts), in 1:15 (1.25 rows/s, engine busy 99%)",
        f"  images             {tmp_path}/images/",
        f"  texts and metadata {tmp_path}/parts/*.parquet",
        f"next: dimoo-batch report {tmp_path}",
    ]


def test_no_rate_is_told_where_no_row_was_run(tmp_path: Path) -> None:
    nothing = replace(summary_of(tmp_path, 0), rows_per_s=0.0, engine_busy_ratio=None)
    assert next(summary_lines(nothing)) == "10 rows done, 0 failed (3 committed by earlier starts), in 1:15"


def test_the_next_commands_can_be_copied_into_a_shell(tmp_path: Path) -> None:
    output = tmp_path / "two words"
    failures = {"bad_input": 2, "crash": 1, "timeout": 3}
    report, retry = list(summary_lines(summary_of(output, 6, failures)))[-2:]
    assert report == f"next: dimoo-batch report '{output}'"
    assert retry == f"next: dimoo-batch retry '{output}'  # these may succeed on another attempt: 3 timeout, 1 crash"
    assert "retry" not in list(summary_lines(summary_of(output, 2, {"bad_input": 2})))[-1]


def test_what_is_said_at_the_end_shows_the_first_failures_in_row_order(tmp_path: Path) -> None:
    run = RunDirectory(LocalStore(str(tmp_path)))
    for segment in (1, 0):
        failures = tuple(RowFailure(10 * segment + row, f"id{row}", "fetch", "E", "gone") for row in range(4))
        rows = pa.table({"id": [failure.id for failure in failures]})
        part = part_bytes(failures, rows, 10 * segment, writer="w", run="r")
        run.commit(PartName(f"0000000-0000{segment}"), part, PartSummary(0, failures))
    *_, places, again, first, second, third, fourth, fifth, more, _ = summary_lines(
        summary_of(tmp_path, 8, {"bad_input": 1, "not_found": 7})
    )
    assert places == f"  failures           {tmp_path}/_failures/*.parquet"
    assert again == f"  fix the cause, then: dimoo-batch retry {tmp_path} --class bad_input --class not_found"
    assert first == "    row 0 (id0), fetch: gone"
    assert [line.split()[1] for line in (second, third, fourth, fifth)] == ["1", "2", "3", "10"]
    assert more == "    … and 3 more"


def test_the_hint_after_a_stop_names_the_output() -> None:
    assert resume_hint("s3://b/out") == "Committed rows are safe in s3://b/out. Re-run the same command to resume."
    (error := ValueError()).add_note("16 of 149 rows committed to out.")
    assert resume_hint("s3://b/out", error) == "16 of 149 rows committed to out. Re-run the same command to resume."


def test_success_is_written_when_every_segment_is_there_and_every_row_is_counted(tmp_path: Path) -> None:
    run = RunDirectory(LocalStore(str(tmp_path)))
    plan = plan_shards([ManifestFile("m", 1, 2, "d")], shard_rows=10, segment_rows=1)
    failures = (RowFailure(0, "a", "fetch", "E", "gone"),)
    rows = SCHEMA.empty_table()
    with pytest.raises(RunFailed, match="2 segments are missing at the end, 2 of 2 rows are accounted for"):
        conclude(run, run.committed_segments(plan), RunTotals(2, 0))
    for segment in plan:
        failure = RowFailure(segment.first_row, "a", "fetch", "E", "gone")
        table = rows.from_pylist([{"id": "a"}], schema=SCHEMA)
        part = part_bytes([failure], table, segment.first_row, writer="w", run="r")
        run.commit(PartName(segment.name), part, PartSummary(0, failures))
    with pytest.raises(RunFailed, match="0 segments are missing at the end, 1 of 2 rows are accounted for"):
        conclude(run, run.committed_segments(plan), RunTotals(0, 1))
    assert list(run.store.list("_SUCCESS")) == []
    conclude(run, run.committed_segments(plan), RunTotals(0, 2))
    assert list(run.store.list("_SUCCESS")) == ["_SUCCESS"]


def test_more_gpus_than_ray_has_are_refused_before_anything_is_written(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoGpus:
        def __init__(self, *arguments: object, **options: object) -> None: ...

        def __enter__(self) -> int:
            return 0

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(workers_module, "ray_cluster", NoGpus)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    with pytest.raises(ConfigError, match="2 workers with 1 GPU each were asked for, Ray has 0 GPUs"):
        run_here(manifest, tmp_path / "out", tiny_checkpoint, workers=2, device="cuda")
    assert list((tmp_path / "out").iterdir()) == []


def refuse_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "ray_cluster", lambda *arguments, **options: pytest.fail("Ray was asked"))


def test_a_start_that_finds_nothing_to_do_starts_no_ray(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub_model(monkeypatch)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a"), image_row("wide", width=33)])
    first = run_here(manifest, tmp_path / "out", tiny_checkpoint)
    refuse_ray(monkeypatch)
    again = run_here(manifest, tmp_path / "out", tiny_checkpoint, workers=2)
    assert (again.done, again.failed, again.resumed, again.rows_per_s) == (1, 1, 2, 0)
    assert again.failures == first.failures == {"bad_input": 1}
    for changed in ({"seed": 1}, {"limit": 1}, {"device": "cuda"}, {"pipeline": {"segment_rows": 5}}):
        with pytest.raises(ConfigError, match="holds a run"):
            run_here(manifest, tmp_path / "out", tiny_checkpoint, workers=2, **changed)


def test_a_new_run_that_has_ended_starts_no_ray_again(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub_model(monkeypatch)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    flags = {"manifest": str(manifest), "output": str(tmp_path / "out"), "model": str(tiny_checkpoint)}
    anew = ResumeOptions(is_new_run=True)

    def start(workers: int, seed: int) -> RunSummary:
        return run_job(load_spec(None, flags | {"workers": workers}, [f"seed={seed}"]), anew)

    made = [start(0, seed).output for seed in (0, 1)]
    assert made == [str(tmp_path / "out"), str(tmp_path / "out-2")]
    refuse_ray(monkeypatch)
    again = [start(2, seed) for seed in (0, 1)]
    assert [(summary.output, summary.resumed) for summary in again] == [(output, 1) for output in made]
    with pytest.raises(pytest.fail.Exception, match="Ray was asked"):
        start(2, 2)


def test_all_parts_are_listed_twice_whether_the_run_has_ended_or_not(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that has ended before and after its epoch is claimed, of another after that and at its end."""
    use_stub_model(monkeypatch)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a"), image_row("b")])
    requests: list[str] = []

    def start() -> list[str]:
        requests.clear()
        with monkeypatch.context() as patch:
            for method, name in (("list", "list parts"), ("size", "look for the last part")):
                note_requests(patch, method, name, requests)
            run_here(manifest, tmp_path / "out", tiny_checkpoint, pipeline={"segment_rows": 1})
        return [*requests]

    start()
    assert start() == ["look for the last part", "list parts", "list parts"]
    (tmp_path / "out" / "parts" / "0000000-00001.parquet").unlink()
    assert start() == ["look for the last part", "list parts", "list parts"]


def note_requests(patch: pytest.MonkeyPatch, method: str, name: str, requests: list[str]) -> None:
    """Note requests for all parts, or for the second segment's."""
    original = getattr(LocalStore, method)

    def noted(store: LocalStore, key: str = "") -> object:
        if key == ("parts/" if method == "list" else "parts/0000000-00001.parquet"):
            requests.append(name)
        return original(store, key)

    patch.setattr(LocalStore, method, noted)


def test_a_start_without_ray_ends_if_something_is_left_all_the_same(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub_model(monkeypatch)
    refuse_ray(monkeypatch)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    run_here(manifest, tmp_path / "out", tiny_checkpoint)
    (tmp_path / "out" / "parts" / "0000000-00000.parquet").unlink()
    monkeypatch.setattr("jobs.run.run._device_of_finished_run", lambda run, source: "cpu")  # as it was a moment ago
    with pytest.raises(RunFailed, match="1 part disappeared"):
        run_here(manifest, tmp_path / "out", tiny_checkpoint, workers=2)


def test_ray_is_asked_as_soon_as_something_is_left_and_that_is_said(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dimoo_batch")

    def refuse(*arguments: object, **options: object) -> None:
        raise ConfigError("Ray was asked")

    use_stub_model(monkeypatch)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a"), image_row("b")])
    run_here(manifest, tmp_path / "out", tiny_checkpoint, pipeline={"segment_rows": 1})
    (tmp_path / "out" / "parts" / "0000000-00001.parquet").unlink()
    monkeypatch.setattr(workers_module, "ray_cluster", refuse)
    flags = {"manifest": str(manifest), "output": str(tmp_path / "out"), "model": str(tiny_checkpoint), "workers": 2}
    for settings, words in (((), "starting Ray with 2 workers"), (("ray.address=a:1",), "connecting to Ray at a:1")):
        with pytest.raises(ConfigError, match="Ray was asked"):
            run_job(load_spec(None, flags, settings))
        assert caplog.messages[-1] == words


def test_the_cluster_to_join_is_the_one_given_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert known_address(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert known_address(None) == "head:6379"
    assert known_address("other:6379") == "other:6379"


def test_a_cluster_that_is_not_there_is_wrong_input(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    with pytest.raises(ConfigError, match=r"ray\.address: no Ray cluster at '127\.0\.0\.1:1': Connection refused"):
        run_here(manifest, tmp_path / "out", tiny_checkpoint, workers=None)


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def test_a_signal_that_comes_while_ray_starts_is_handled_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(address: object, num_workers: int, folder: Path) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, interrupt)
    monkeypatch.setattr("jobs.run.workers._init", init)
    try:
        with pytest.raises(KeyboardInterrupt), ray_cluster(None, num_workers=1):
            pass
        assert signal.getsignal(signal.SIGTERM) is interrupt
    finally:
        signal.signal(signal.SIGTERM, before)
