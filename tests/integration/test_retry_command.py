"""``dimoo-batch retry``: failed rows run again, each row once in what readers see, wherever a start breaks off."""

import json
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from typer.testing import CliRunner

import pipeline.worker
from jobs.cli import app
from jobs.retry import RetryChoice, retry_job
from manifests.row import Row, RowFailure
from pipeline.errors import RunFailed, StoreError
from pipeline.outcome import PartSummary
from pipeline.part_name import PartName
from pipeline.run_audit import RunAudit
from pipeline.run_directory import RunDirectory
from pipeline.store import open_store
from tests.support.breaking_disk import BreakingDisk
from tests.support.damage import (
    Damage,
    copied,
    deleted,
    edited,
    edited_bytes,
    edited_json,
    flipped,
    in_first_page,
    table_of,
    write,
)
from tests.support.in_process import run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.s3_server import S3Server
from tests.support.stub_model import use_stub_model

MISSING = ("late0", "late1", "late2")
"""Rows whose images appear after the run, each in a segment of its own."""

NEVER = "never"
"""A row whose image never appears, beside the first of those."""

_OURS = ("images/", "parts/", "_failures/", "_SUCCESS", "_retries/")


def rows() -> list[dict[str, Any]]:
    """Segments of two; a row that may be mended is beside one that may not, cannot be read, is done, or is none."""
    return [
        image_row("image0"),
        image_row("image1"),
        text_row("late0", "photos/late0.png"),
        text_row(NEVER, "photos/never.png"),
        text_row("late1", "photos/late1.png"),
        text_row("broken", b"no image"),
        image_row("image2"),
        text_row("late2", "photos/late2.png"),
        image_row("too wide", width=33),
        image_row("image3"),
    ]


IDS = [row["id"] for row in rows()]
IDS_OF_SLOW = ["slow0", "slow1", "quick0", "slow2", "slow3", "quick1"]


@pytest.fixture(scope="module")
def failed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest, its run in ``out`` and the photos that came too late; not to be changed."""
    folder = tmp_path_factory.mktemp("failed")
    with pytest.MonkeyPatch.context() as patch:
        use_stub_model(patch)
        write_manifest(folder / "m.parquet", rows())
        run_here(folder / "m.parquet", folder / "out", Path("stub"), pipeline={"segment_rows": 2})
    assert sorted(RunOutput(folder / "out").failed_by_id()) == sorted([*MISSING, NEVER, "broken", "too wide"])
    return folder


@pytest.fixture
def output(failed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run that may be retried; the manifest is found there, the late photos beside it."""
    use_stub_model(monkeypatch)
    folder = Path(shutil.copytree(failed_run, tmp_path / "there"))
    add_photos(folder)
    return folder / "out"


def add_photos(folder: Path) -> None:
    (folder / "photos").mkdir(exist_ok=True)
    for number, name in enumerate(MISSING):
        (folder / "photos" / f"{name}.png").write_bytes(encoded(picture(number, (32, 32))))


def retry(output: object, *arguments: object, manifest: Path | None = None) -> Any:
    """The command; it is told where the manifest is if that lies beside the output, as it does not say itself."""
    beside = manifest or Path(str(output)).parent / "m.parquet"
    words = ["--manifest", str(beside)] if beside.exists() else []
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        return CliRunner().invoke(app, ["retry", str(output), "--workers", "0", *words, *map(str, arguments)])
    finally:
        signal.signal(signal.SIGTERM, on_terminate)


def all_keys(output: object) -> list[str]:
    return RunOutput(output).keys()


def check_good(output: object, num_rows: int = 10) -> None:
    findings: list[object] = []
    totals = RunAudit(open_store(str(output)), findings.append, findings.append).run()
    assert (findings, totals.num_rows) == ([], num_rows)


def read_as_dataset(output: Path) -> list[str]:
    return sorted(ds.dataset(output / "parts").to_table().column("id").to_pylist())


def test_rows_of_the_named_class_are_run_again_and_all_others_stay(output: Path) -> None:
    before = {key: open_store(str(output)).get(key) for key in RunOutput(output).keys("parts/")}
    ended = retry(output, "--class", "not_found")
    assert ended.exit_code == 3, ended.output
    summary = json.loads(ended.stdout)
    assert (summary["rows"], summary["done"], summary["failed"], summary["left"]) == (10, 7, 3, 0)
    assert (summary["retry"], summary["retried"], summary["mended"], summary["kept"]) == (1, 4, 3, {"bad_input": 2})
    assert summary["status"] == "done_with_failures"
    assert "left as they are: 2 bad_input (--class bad_input)" in ended.stderr
    assert "retry 1: 3 of 4 failed rows are done now" in ended.stderr

    now = RunOutput(output)
    now.check_complete(IDS)
    check_good(output)
    assert {key: now.store.get(key) for key in before} == before
    assert set(now.keys("parts/")) - before.keys() == {f"parts/0000000-0000{n}-r1.parquet" for n in (1, 2, 3)}
    assert now.keys("_failures/") == [f"_failures/0000000-0000{name}.parquet" for name in ("1-r1", "2-r1", "4")]
    failed = now.failed_by_id()
    assert {row_id: failed[row_id]["attempts"] for row_id in failed} == {NEVER: 2, "broken": 1, "too wide": 1}
    assert read_as_dataset(output) == sorted(set(IDS) - failed.keys())


def test_what_is_worth_a_try_is_tried_by_default_and_the_rest_is_named(output: Path) -> None:
    before = {key: open_store(str(output)).get(key) for key in all_keys(output)}
    ended = retry(output)
    assert ended.exit_code == 3, ended.output
    assert "retry 1 of classes timeout, oom, engine, store, crash: failed rows to run again: none" in ended.stderr
    assert "left as they are: 2 bad_input, 4 not_found (--class bad_input --class not_found)" in ended.stderr
    assert json.loads(ended.stdout)["retried"] == 0
    assert {key: open_store(str(output)).get(key) for key in all_keys(output)} == before


def test_a_retry_after_a_retry_takes_what_has_failed_again(output: Path) -> None:
    late = output.parent / "photos" / "late2.png"
    kept = late.read_bytes()
    late.unlink()
    assert json.loads(retry(output, "--class", "not_found").stdout)["mended"] == 2
    late.write_bytes(kept)
    summary = json.loads(retry(output, "--class", "all").stdout)
    assert (summary["retry"], summary["retried"], summary["mended"], summary["failed"]) == (2, 4, 1, 3)
    now = RunOutput(output)
    now.check_complete(IDS)
    check_good(output)
    assert "parts/0000000-00003-r2.parquet" in now.keys("parts/")
    assert now.failed_by_id()[NEVER]["attempts"] == 3
    third = json.loads(retry(output, "--class", "not_found").stdout)
    assert (third["retry"], third["retried"], third["mended"]) == (3, 1, 0)
    check_good(output)


def test_every_reader_sees_each_row_once(output: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    retry(output, "--class", "not_found")
    status = json.loads(CliRunner().invoke(app, ["status", str(output), "--json"]).stdout)
    assert (status["state"], status["done"], status["failed"], status["left"]) == ("complete", 7, 3, 0)
    assert sum(status["failures"].values()) == 3
    assert CliRunner().invoke(app, ["report", str(output)]).exit_code == 0
    page = (output / "report" / "index.html").read_text()
    assert page.count('"late0"') == 1
    assert "parts/*.parquet" in (output / "README.md").read_text()
    words = [
        "export",
        str(output),
        str(tmp_path / "files"),
        "--to",
        "files",
        "--manifest",
        str(output.parent / "m.parquet"),
    ]
    exported = CliRunner().invoke(app, words)
    assert exported.exit_code == 0, exported.output
    listed = (tmp_path / "files").rglob("*")
    assert sum("0000000007" in path.name for path in listed if path.is_file()) >= 1
    again = run_here(output.parent / "m.parquet", output, Path("stub"), pipeline={"segment_rows": 2})
    assert (again.done, again.failed, again.resumed) == (7, 3, 10)
    check_good(output)


@pytest.fixture
def timed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output of a run whose store was slow: four of its six rows have failed, in three segments."""
    use_stub_model(monkeypatch)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row(name) for name in IDS_OF_SLOW])
    fail_slow_rows(monkeypatch, "slow")
    run_here(manifest, tmp_path / "out", Path("stub"), pipeline={"segment_rows": 2})
    fail_slow_rows(monkeypatch, "slow0")
    return tmp_path / "out"


_PREPARE = pipeline.worker.RowPreparer.prepare


def fail_slow_rows(patch: pytest.MonkeyPatch, beginning: str) -> None:
    """From now on rows whose id begins like this time out, and no others."""

    def prepare(preparer: Any, row: Row, folder: str) -> Any:
        if row.id.startswith(beginning):
            return RowFailure(row.index, row.id, "generate", "RequestTimedOut", "it was slow", "timeout")
        return _PREPARE(preparer, row, folder)

    patch.setattr(pipeline.worker.RowPreparer, "prepare", prepare)


def test_a_start_that_breaks_off_at_any_write_is_made_good_by_the_same_command(
    timed_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = RetryChoice(workers=0)

    def retried(output: Path) -> RunOutput:
        assert (lambda summary: (summary.run.done, summary.run.failed))(retry_job(str(output), choice, print)) == (5, 1)
        now = RunOutput(output)
        now.check_complete(IDS_OF_SLOW)
        check_good(output, len(IDS_OF_SLOW))
        return now

    whole = retried(Path(shutil.copytree(timed_out, tmp_path / "whole")))
    broken_at: list[str] = []
    for number in range(100):
        disks = [BreakingDisk(_OURS, number, is_done_first) for is_done_first in (False, True)]
        for disk in disks:
            broken = Path(shutil.copytree(timed_out, tmp_path / f"broken-{number}-{disk.is_done_first}"))
            with monkeypatch.context() as patch, suppress(RunFailed, StoreError):
                disk.install(patch)
                retry_job(str(broken), choice, print)
            had_ended = json.loads((broken / "_retries" / "000001.json").read_text())["has_ended"] if number else False
            now = retried(broken)
            assert now.results() == whole.results()
            if not had_ended:  # else the same command is the next retry
                assert now.keys() == whole.keys()
                assert now.failures() == whole.failures()
        broken_at += disks[0].broken_at
        if not disks[0].broken_at:
            break
    assert {key.partition("/")[0] for key in broken_at} == {"images", "parts", "_failures", "_SUCCESS", "_retries"}
    assert len(broken_at) >= 12


def test_a_run_command_after_a_broken_retry_concludes_with_the_rows_as_they_stand(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        BreakingDisk(("parts/",), 1, True).install(patch)
        assert retry(output, "--class", "not_found").exit_code != 0
    assert RunOutput(output).success() is None
    summary = run_here(output.parent / "m.parquet", output, Path("stub"), pipeline={"segment_rows": 2})
    assert summary.done + summary.failed == len(IDS)
    assert summary.done > 4
    RunOutput(output).check_complete(IDS)
    check_good(output)
    assert json.loads(retry(output, "--class", "not_found").stdout)["done"] == 7
    check_good(output)


def test_of_two_attempts_at_a_retry_the_first_part_stands(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of an earlier epoch that goes on after its driver: its part is whole, and so is adopted."""
    commit = RunDirectory.commit

    def commit_second(run: RunDirectory, name: PartName, part: bytes, summary: PartSummary) -> PartSummary:
        commit(run, name, part, summary)
        return commit(run, name, b"of the second", PartSummary(99, ()))

    monkeypatch.setattr(RunDirectory, "commit", commit_second)
    assert json.loads(retry(output, "--class", "not_found").stdout)["mended"] == 3
    RunOutput(output).check_complete(IDS)
    check_good(output)


def test_a_stopped_run_is_retried_as_far_as_it_got_and_goes_on_afterwards(
    failed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub_model(monkeypatch)
    write_manifest(tmp_path / "m.parquet", rows())
    with monkeypatch.context() as patch:
        BreakingDisk(("parts/",), 2, True).install(patch)
        with pytest.raises(RunFailed):
            run_here(
                tmp_path / "m.parquet",
                tmp_path / "out",
                Path("stub"),
                pipeline={"segment_rows": 2, "max_rows_in_flight": 1, "store_threads": 1},
            )
    add_photos(tmp_path)
    ended = retry(tmp_path / "out", "--class", "not_found")
    assert ended.exit_code == 3, ended.output
    summary = json.loads(ended.stdout)
    assert summary["left"] > 0
    assert (summary["status"], summary["done"] + summary["failed"] + summary["left"]) == ("incomplete", 10)
    assert summary["mended"] >= 1
    assert RunOutput(tmp_path / "out").success() is None
    run_here(tmp_path / "m.parquet", tmp_path / "out", Path("stub"), pipeline={"segment_rows": 2})
    RunOutput(tmp_path / "out").check_complete(IDS)
    check_good(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--class", "lost"), "--class must be one of bad_input, not_found"),
        (("--set", "seed=3"), "--set seed: a retry keeps what the run has decided"),
        (("--set", "pipeline.segment_rows=3"), "--set pipeline.segment_rows: a retry keeps"),
        (("--set", "failures.row_timeout_s=-1"), "the time of a request must be above 0 s, got -1.0"),
        (("--set", "device=cuda"), "the run was made on cpu, here it would be cuda"),
    ],
)
def test_wrong_words_are_told_before_anything_is_run(arguments: tuple[str, ...], words: str, output: Path) -> None:
    before = RunOutput(output).keys()
    ended = retry(output, *arguments)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert RunOutput(output).keys() == before


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    ended = retry(tmp_path)
    assert ended.exit_code == 2
    assert "is not the output of a run" in ended.stderr


def test_a_mended_manifest_is_refused_until_the_change_is_accepted(output: Path) -> None:
    mended = [image_row("too wide", width=32) if row["id"] == "too wide" else row for row in rows()]
    write_manifest(output.parent / "m.parquet", mended)
    refused = retry(output, "--class", "bad_input")
    assert refused.exit_code == 2
    assert "manifest_fingerprint" in refused.stderr
    ended = retry(output, "--class", "bad_input", "--accept-change", "manifest_fingerprint")
    assert ended.exit_code == 3, ended.output
    assert json.loads(ended.stdout)["mended"] == 1
    assert "too wide" in RunOutput(output).by_id()
    check_good(output)


R1 = "parts/0000000-00001-r1.parquet"
RECORD = "_retries/000001.json"


def dropped_failures(failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []


def other_message(failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [failure | {"message": "other"} for failure in failures]


def once_more(failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [failure | {"attempts": 1} for failure in failures]


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a retry's part is missing, its copy is there": (
        deleted(R1),
        "_failures/0000000-00001-r1.parquet: object: expected",
    ),
    "a retry's part without failures is missing": (
        deleted("parts/0000000-00003-r1.parquet"),
        "_failures/0000000-00003.parquet: object: expected a copy of the 1 failures",
    ),
    "the part before it is missing": (
        deleted("parts/0000000-00001.parquet"),
        f"{R1}: object: expected parts/0000000-00001.parquet before it, found nothing",
    ),
    "it is numbered too high": (
        copied(R1, "parts/0000000-00001-r3.parquet"),
        "parts/0000000-00001-r3.parquet: object: expected parts/0000000-00001-r2.parquet before it",
    ),
    "it is there twice": (
        copied(R1, "parts/0000000-00001-r2.parquet"),
        "parts/0000000-00001-r2.parquet: row 2: expected no outcome, since it has not failed before, found one",
    ),
    "it lies with another segment": (
        copied(R1, "parts/0000000-00000-r1.parquet"),
        "parts/0000000-00000-r1.parquet: row 2: expected no outcome",
    ),
    "one bit of it is another": (edited_bytes(R1, flipped(in_first_page)), f"{R1}: content: expected a readable part"),
    "it is cut off": (edited_bytes(R1, lambda data: data[:-9]), f"{R1}: content: expected a readable part"),
    "a failure is lost": (
        edited(R1, lambda rows: rows, failures=dropped_failures),
        f"{R1}: row 3: expected an outcome",
    ),
    "a row that is done is lost": (
        lambda store: write(store, R1, table_of(store, R1).slice(0, 0)),
        f"{R1}: row 2: expected an outcome, since it has failed before, found none",
    ),
    "a failure that was not retried is another": (
        edited("parts/0000000-00002-r1.parquet", lambda rows: rows, failures=other_message),
        "parts/0000000-00002-r1.parquet: row 5, whose class bad_input was not retried: expected",
    ),
    "a row that failed again was not tried": (
        edited(R1, lambda rows: rows, failures=once_more),
        f"{R1}: attempts of row 3: expected more than 1, found 1",
    ),
    "it is of no retry": (
        edited(R1, lambda rows: rows, retry=lambda number: 7),
        f"{R1}: dimoo.retry: expected the number",
    ),
    "it is of another run": (
        edited_bytes(R1, lambda data: data.replace(b"dimoo.run", b"dimoo.ruX")),
        f"{R1}: dimoo.run",
    ),
    "the record is missing": (deleted(RECORD), f"{R1}: dimoo.retry: expected the number of a retry that has a record"),
    "the record is no JSON": (edited_bytes(RECORD, lambda data: data[:-9]), f"{RECORD}: content: expected a retry's"),
    "the record names other classes": (
        edited_json(RECORD, lambda found: found.update(classes=["timeout"])),
        f"{R1}: row 2, whose class not_found was not retried",
    ),
    "the record names no class": (edited_json(RECORD, lambda found: found.update(classes=[])), f"{RECORD}: content"),
    "a copy that is no longer true came back": (
        copied("_failures/0000000-00001-r1.parquet", "_failures/0000000-00001.parquet"),
        "_failures/0000000-00001.parquet: object: expected nothing, since no failure stands there",
    ),
    "totals are those before the retry": (
        edited_json("_SUCCESS", lambda found: found.update(rows_done=4, rows_failed=6)),
        "_SUCCESS: totals: expected",
    ),
}


@pytest.fixture(scope="module")
def retried_run(failed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run and one retry; not to be changed."""
    folder = Path(shutil.copytree(failed_run, tmp_path_factory.mktemp("retried") / "there"))
    add_photos(folder)
    with pytest.MonkeyPatch.context() as patch:
        use_stub_model(patch)
        assert retry(folder / "out", "--class", "not_found").exit_code == 3
    check_good(folder / "out")
    return folder / "out"


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_of_what_a_retry_wrote_is_found(name: str, retried_run: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(retried_run, tmp_path / "out"))
    damage, expected = DAMAGES[name]
    damage(open_store(str(output)))
    verified = CliRunner().invoke(app, ["verify", str(output)])
    assert verified.exit_code == 1, verified.output
    assert expected in verified.stdout


def test_a_retry_on_s3_ends_with_what_one_on_a_disk_ends_with(output: Path, s3_env: S3Server, s3_bucket: str) -> None:
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        key = f"out/{path.relative_to(output).as_posix()}"
        s3_env.client.put_object(Bucket=s3_bucket, Key=key, Body=path.read_bytes())
    ended = retry(f"s3://{s3_bucket}/out", "--class", "not_found", manifest=output.parent / "m.parquet")
    assert ended.exit_code == 3, ended.output
    retry(output, "--class", "not_found")
    there, here = RunOutput(f"s3://{s3_bucket}/out"), RunOutput(output)
    there.check_complete(IDS)
    check_good(f"s3://{s3_bucket}/out")
    assert there.keys() == here.keys()
    assert there.results() == here.results()
