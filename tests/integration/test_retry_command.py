"""``dimoo-batch retry``: failed rows run again, each row once in what readers see."""

import json
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from typer.testing import CliRunner

from dimoo_core.errors import ConfigError
from jobs.cli import app
from pipeline.storage.reader import open_store
from tests.support.failed_run import IDS, NEVER, check_good, retry, rows
from tests.support.in_process import run_here
from tests.support.manifest_rows import image_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.s3_server import S3Server


def all_keys(output: object) -> list[str]:
    return RunOutput(output).keys()


def read_as_dataset(output: Path) -> list[str]:
    return sorted(ds.dataset(output / "parts").to_table().column("id").to_pylist())


def test_rows_of_the_named_class_are_run_again_and_all_others_stay(retriable: Path) -> None:
    before = {key: open_store(str(retriable)).get(key) for key in RunOutput(retriable).keys("parts/")}
    ended = retry(retriable, "--class", "not_found", "--set", "worker_hour_usd=3600")
    assert ended.exit_code == 3, ended.output
    summary = json.loads(ended.stdout)
    assert 0 < summary["cost_usd"] <= summary["wall_s"]
    assert (summary["rows"], summary["done"], summary["failed"], summary["left"]) == (10, 7, 3, 0)
    assert (summary["retry"], summary["retried"], summary["mended"], summary["kept"]) == (1, 4, 3, {"bad_input": 2})
    assert summary["status"] == "done_with_failures"
    assert summary["failures"] == {"bad_input": 2, "not_found": 1}
    assert f"next: dimoo-batch report {retriable}" in ended.stderr
    assert "not retried: 2 bad_input (--class bad_input)" in ended.stderr
    assert "retry 1: 3 of 4 failed rows now done" in ended.stderr

    now = RunOutput(retriable)
    now.check_complete(IDS)
    check_good(retriable)
    assert {key: now.store.get(key) for key in before} == before
    assert set(now.keys("parts/")) - before.keys() == {f"parts/0000000-0000{n}-r1.parquet" for n in (1, 2, 3)}
    assert now.keys("_failures/") == [f"_failures/0000000-0000{name}.parquet" for name in ("1-r1", "2-r1", "4")]
    failed = now.failed_by_id()
    assert {row_id: failed[row_id]["attempts"] for row_id in failed} == {NEVER: 2, "broken": 1, "too wide": 1}
    assert read_as_dataset(retriable) == sorted(set(IDS) - failed.keys())


def test_what_is_worth_a_try_is_tried_by_default_and_the_rest_is_named(
    retriable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.run.workers.ray_cluster", lambda *arguments, **options: pytest.fail("Ray was asked"))
    before = {key: open_store(str(retriable)).get(key) for key in all_keys(retriable)}
    ended = retry(retriable, "--workers", 2)
    assert ended.exit_code == 3, ended.output
    assert "nothing to retry: no failed rows of classes timeout, oom, engine, store, crash" in ended.stderr
    assert "rows/s" not in ended.stderr
    assert json.loads(ended.stdout)["failures"] == {"bad_input": 2, "not_found": 4}
    assert "not retried: 2 bad_input, 4 not_found (--class bad_input --class not_found)" in ended.stderr
    assert json.loads(ended.stdout)["retried"] == 0
    assert {key: open_store(str(retriable)).get(key) for key in all_keys(retriable)} == before


def test_a_retry_after_a_retry_takes_what_has_failed_again(retriable: Path) -> None:
    late = retriable.parent / "photos" / "late2.png"
    kept = late.read_bytes()
    late.unlink()
    assert json.loads(retry(retriable, "--class", "not_found").stdout)["mended"] == 2
    late.write_bytes(kept)
    summary = json.loads(retry(retriable, "--class", "all").stdout)
    assert (summary["retry"], summary["retried"], summary["mended"], summary["failed"]) == (2, 4, 1, 3)
    now = RunOutput(retriable)
    now.check_complete(IDS)
    check_good(retriable)
    assert "parts/0000000-00003-r2.parquet" in now.keys("parts/")
    assert now.failed_by_id()[NEVER]["attempts"] == 3
    third = json.loads(retry(retriable, "--class", "not_found").stdout)
    assert (third["retry"], third["retried"], third["mended"]) == (3, 1, 0)
    check_good(retriable)


def test_every_reader_sees_each_row_once(retriable: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    retry(retriable, "--class", "not_found")
    status = json.loads(CliRunner().invoke(app, ["status", str(retriable), "--json"]).stdout)
    assert (status["state"], status["done"], status["failed"], status["left"]) == ("complete", 7, 3, 0)
    assert sum(status["failures"].values()) == 3
    assert CliRunner().invoke(app, ["report", str(retriable)]).exit_code == 0
    page = (retriable / "report" / "index.html").read_text()
    assert page.count('"late0"') == 1
    assert "parts/*.parquet" in (retriable / "README.md").read_text()
    words = [
        "export",
        str(retriable),
        str(tmp_path / "files"),
        "--to",
        "files",
        "--manifest",
        str(retriable.parent / "m.parquet"),
    ]
    exported = CliRunner().invoke(app, words)
    assert exported.exit_code == 0, exported.output
    listed = (tmp_path / "files").rglob("*")
    assert sum("0000000007" in path.name for path in listed if path.is_file()) >= 1
    again = run_here(retriable.parent / "m.parquet", retriable, Path("stub"), pipeline={"segment_rows": 2})
    assert (again.done, again.failed, again.resumed) == (7, 3, 10)
    check_good(retriable)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--class", "lost"), "--class must be one of bad_input, not_found"),
        (("--set", "seed=3"), "--set seed: a retry cannot change the settings of the run"),
        (("--set", "pipeline.segment_rows=3"), "--set pipeline.segment_rows: a retry cannot change"),
        (("--set", "failures.row_timeout_s=-1"), "failures.row_timeout_s must be above 0, got -1"),
        (("--set", "device=cuda"), "the run used cpu, this retry would use cuda"),
    ],
)
def test_wrong_words_are_told_before_anything_is_run(arguments: tuple[str, ...], words: str, retriable: Path) -> None:
    before = RunOutput(retriable).keys()
    ended = retry(retriable, *arguments)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert RunOutput(retriable).keys() == before


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    ended = retry(tmp_path)
    assert ended.exit_code == 2
    assert "is not the output of a run" in ended.stderr


def test_a_fixed_manifest_is_refused_until_the_change_is_accepted(retriable: Path) -> None:
    mended = [image_row("too wide", width=32) if row["id"] == "too wide" else row for row in rows()]
    write_manifest(retriable.parent / "m.parquet", mended)
    refused = retry(retriable, "--class", "bad_input")
    assert refused.exit_code == 2
    assert "the manifest has changed: 10 rows then, 10 now): give the manifest and model it was" in refused.stderr
    assert "or continue with --accept-change manifest_fingerprint" in refused.stderr
    assert "--output" not in refused.stderr
    assert "--new-run" not in refused.stderr
    ended = retry(retriable, "--class", "bad_input", "--accept-change", "manifest_fingerprint")
    assert ended.exit_code == 3, ended.output
    assert json.loads(ended.stdout)["mended"] == 1
    assert "too wide" in RunOutput(retriable).by_id()
    check_good(retriable)
    for start in range(2):  # what was accepted once is accepted by the run, too, and so is what it was started with
        again = run_here(retriable.parent / "m.parquet", retriable, Path("stub"), pipeline={"segment_rows": 2})
        assert (again.done + again.failed, again.resumed) == (10, 10)
        if not start:
            write_manifest(retriable.parent / "m.parquet", rows())
    check_good(retriable)


def test_a_manifest_with_more_rows_is_refused_without_a_way_that_does_not_work(retriable: Path) -> None:
    write_manifest(retriable.parent / "m.parquet", [*rows(), image_row("one more")])
    refused = retry(retriable)
    assert refused.exit_code == 2
    assert "the manifest has changed: 10 rows then, 11 now): give the manifest and model it was" in refused.stderr
    assert "--accept-change" not in refused.stderr
    with pytest.raises(ConfigError, match="10 rows then, 11 now") as caught:
        run_here(retriable.parent / "m.parquet", retriable, Path("stub"), pipeline={"segment_rows": 2})
    assert "--accept-change" not in str(caught.value)


def test_a_retry_on_s3_ends_with_what_one_on_a_disk_ends_with(
    retriable: Path, s3_env: S3Server, s3_bucket: str
) -> None:
    for path in sorted(path for path in retriable.rglob("*") if path.is_file()):
        key = f"out/{path.relative_to(retriable).as_posix()}"
        s3_env.client.put_object(Bucket=s3_bucket, Key=key, Body=path.read_bytes())
    ended = retry(f"s3://{s3_bucket}/out", "--class", "not_found", manifest=retriable.parent / "m.parquet")
    assert ended.exit_code == 3, ended.output
    retry(retriable, "--class", "not_found")
    there, here = RunOutput(f"s3://{s3_bucket}/out"), RunOutput(retriable)
    there.check_complete(IDS)
    check_good(f"s3://{s3_bucket}/out")
    assert there.keys() == here.keys()
    assert there.results() == here.results()
