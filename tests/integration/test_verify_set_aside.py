"""``dimoo-batch verify --set-aside``: what is damaged is moved away, and the run command makes just that anew."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jobs.tools.verify import VerifyOptions, verify_output
from pipeline.errors import RunSuperseded
from pipeline.output.epoch import claimed_epoch, latest_epoch
from pipeline.storage.base import Store
from pipeline.storage.errors import StoreError
from pipeline.storage.local import LocalStore
from pipeline.storage.reader import open_store
from tests.support.breaking_disk import BreakingDisk
from tests.support.damage import (
    Damage,
    copied,
    copy,
    deleted,
    edited,
    edited_bytes,
    flipped,
    in_first_page,
    part,
    run_json,
)
from tests.support.failed_run import check_good as check_retried
from tests.support.failed_run import retry, retry_twice
from tests.support.finished_run import IMAGES, check_good, run, verify
from tests.support.in_process import run_here
from tests.support.run_output import RunOutput
from tests.support.stub_model import use_stub_model

DAMAGES: dict[str, tuple[Damage, int, int]] = {
    "an image is missing": (deleted(IMAGES[3]), 1, 2),
    "a bit of an image is flipped": (edited_bytes(IMAGES[3], flipped(lambda data: len(data) - 1)), 1, 2),
    "an image is cut off": (edited_bytes(IMAGES[3], lambda data: data[:-1]), 1, 2),
    "a part is cut off": (edited_bytes(part(1), lambda data: data[:-9]), 1, 2),
    "a bit of a page is flipped": (edited_bytes(part(1), flipped(in_first_page)), 1, 2),
    "a part with failures is empty": (edited_bytes(part(7), lambda data: b""), 1, 2),
    "a part is missing": (deleted(part(1)), 0, 2),
    "a part with failures is missing": (deleted(part(7)), 0, 2),
    "a part is there twice": (copied(part(1), part(8)), 1, 0),
    "a failure is lost from a part": (edited(part(7), lambda rows: rows, failures=lambda found: found[:1]), 1, 2),
    "a copy of failures tells something else": (
        edited(copy(7), lambda found: found[1].update(message="all is well")),
        0,
        0,
    ),
    "a strange file is among the parts": (copied(part(1), "parts/backup.parquet"), 0, 0),
    "totals are others": (edited_bytes("_SUCCESS", lambda data: b"{}"), 0, 0),
}
"""With how many segments are set aside, and how many rows the run makes again."""


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, finished_run: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of the finished run that a test may damage."""
    if request.param == "local":
        yield LocalStore(str(shutil.copytree(finished_run, tmp_path / "out")))
        return
    request.getfixturevalue("s3_env")
    store = open_store(f"s3://{request.getfixturevalue('s3_bucket')}/out")
    for path in finished_run.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(finished_run).as_posix(), path.read_bytes())
    yield store
    store.close()


def contents(store: Store) -> dict[str, bytes]:
    """What a reader may look at, but for the ids of attempts in parts."""
    kept = ("images/", "_failures/", "_SUCCESS")
    return {key: store.get(key) for key in store.list() if key.startswith(kept)}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_moved_and_made_again_and_nothing_else(
    name: str, store: Store, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, num_segments, num_rows = DAMAGES[name]
    parts = {key: store.get(key) for key in store.list("parts/")}
    damage(store)
    damaged = {key: store.get(key) for key in store.list() if not key.startswith("_epochs/")}

    result = verify(store.uri, "--set-aside")
    assert result.exit_code == 1, result.stderr
    noun = "segment" if num_segments == 1 else "segments"
    assert (f"{num_segments} {noun} moved to {store.uri}/_damaged/" in result.stderr) == (num_segments > 0)
    assert f"re-run the run command to replace {num_rows} rows" in result.stderr
    now = {key: store.get(key) for key in store.list()}
    moved = {key.split("/", 2)[2]: data for key, data in now.items() if key.startswith("_damaged/")}
    assert damaged.keys() - now.keys() == {*moved, "_SUCCESS"}
    assert {key: damaged[key] for key in moved} == moved

    use_stub_model(monkeypatch)
    summary = run(finished_run.parent / "m.parquet", store.uri)
    assert (summary.done, summary.failed, summary.resumed) == (13, 3, 16 - num_rows)
    check_good(store.uri)
    assert contents(store) == contents(LocalStore(str(finished_run)))
    kept = parts.keys() - moved.keys() - {part(1), part(7)}
    assert {key: store.get(key) for key in kept} == {key: parts[key] for key in kept}


@pytest.fixture(scope="module")
def retried_run(failed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run and two retries; not to be changed."""
    folder = Path(shutil.copytree(failed_run, tmp_path_factory.mktemp("retried") / "there"))
    retry_twice(folder)
    assert (folder / "out" / "parts" / "0000000-00001-r2.parquet").exists()
    check_retried(folder / "out")
    return folder


@pytest.mark.parametrize("retry_number", [0, 1])
@pytest.mark.parametrize("is_on_s3", [False, True])
def test_all_parts_of_a_segment_go_when_one_before_its_retries_is_missing(
    retry_number: int, is_on_s3: bool, retried_run: Path, tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    use_stub_model(monkeypatch)
    folder = Path(shutil.copytree(retried_run, tmp_path / "there"))
    uri = str(folder / "out")
    if is_on_s3:
        request.getfixturevalue("s3_env")
        uri = f"s3://{request.getfixturevalue('s3_bucket')}/out"
    store = open_store(uri)
    if is_on_s3:
        for path in (path for path in (folder / "out").rglob("*") if path.is_file()):
            store.put(path.relative_to(folder / "out").as_posix(), path.read_bytes())
    missing = f"parts/0000000-00001{f'-r{retry_number}' if retry_number else ''}.parquet"
    store.delete(missing)
    result = verify(uri, "--set-aside")
    assert "1 segment moved" in result.stderr
    assert "re-run the run command to replace 2 rows" in result.stderr
    assert not any("0000000-00001" in key for key in RunOutput(uri).keys("parts/") + RunOutput(uri).keys("_failures/"))
    summary = run_here(folder / "m.parquet", uri, Path("stub"), pipeline={"segment_rows": 2})
    assert (summary.done, summary.failed, summary.resumed) == (7, 3, 8)
    check_retried(uri)


@pytest.mark.soak
def test_a_crash_at_any_write_leaves_what_either_command_resumes_from(
    retried_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub_model(monkeypatch)
    damaged = Path(shutil.copytree(retried_run, tmp_path / "damaged"))
    edited_bytes("images/0000000/0000000000-image0.png", lambda data: data[:-1])(LocalStore(str(damaged / "out")))
    edited_bytes("parts/0000000-00001-r2.parquet", flipped(in_first_page))(LocalStore(str(damaged / "out")))
    monkeypatch.setattr("pipeline.verify.repair._MOVE_THREADS", 1)  # so that writes are counted in their order
    set_aside = VerifyOptions(sets_aside=True)
    broken_at: list[str] = []
    for number in range(100):
        disks = [
            BreakingDisk(("_damaged/", "parts/", "_failures/", "_SUCCESS"), number, done) for done in (False, True)
        ]
        for disk in disks:
            for command in ("run", "verify"):
                output = Path(shutil.copytree(damaged, tmp_path / f"{number}-{disk.is_done_first}-{command}")) / "out"
                with monkeypatch.context() as patch, suppress(StoreError):
                    BreakingDisk(disk.prefixes, number, disk.is_done_first, broken_at).install(patch)
                    verify_output(str(output), lambda line: None, set_aside)
                words: Any = {"pipeline": {"segment_rows": 2}}
                if command == "run":
                    run_here(output.parent / "m.parquet", output, Path("stub"), **words)
                verify_output(str(output), lambda line: None, set_aside)
                summary = run_here(output.parent / "m.parquet", output, Path("stub"), **words)
                check_retried(output)
                if summary.failed > 3:  # the segment's last retry was moved, and nothing before it is damaged
                    assert json.loads(retry(output, "--class", "not_found").stdout)["failed"] == 3
                    check_retried(output)
        if len(broken_at) < 4 * (number + 1):
            break
    assert {key.partition("/")[0] for key in broken_at} == {"_damaged", "parts", "_failures", "_SUCCESS"}


def test_nothing_is_moved_while_a_driver_is_at_work(finished_run: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(finished_run, tmp_path / "out"))
    LocalStore(str(output)).delete(IMAGES[3])
    with claimed_epoch(LocalStore(str(output))):
        result = verify(output, "--set-aside")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is in use by another driver" in result.stderr
    assert RunOutput(output).success() is not None
    assert not (output / "_damaged").exists()


@pytest.mark.parametrize("first", ["_SUCCESS", "parts/"])
def test_a_removal_that_a_store_puts_off_is_not_made_once_another_has_taken_over(
    first: str, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Path(shutil.copytree(finished_run, tmp_path / "out"))
    LocalStore(str(output)).delete(IMAGES[3])
    put_off: list[str] = []
    delete = LocalStore.delete

    def throttled(store: LocalStore, key: str) -> None:
        if key.startswith(first) and not put_off:
            put_off.append(key)
            assert store.put_if_absent(f"_epochs/{latest_epoch(store) + 1:06d}.json", b"{}")
            raise StoreError("delete", store.uri_of(key), "SlowDown", retryable=True)
        delete(store, key)

    monkeypatch.setattr(LocalStore, "delete", throttled)
    with pytest.raises(RunSuperseded, match="has taken over"):
        verify_output(str(output), lambda line: None, VerifyOptions(sets_aside=True))
    assert (output / put_off[0]).exists()


def test_in_a_good_output_nothing_is_moved(finished_run: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(finished_run, tmp_path / "out"))
    before = RunOutput(output).keys()
    result = verify(output, "--set-aside")
    assert (result.exit_code, result.stderr) == (0, "")
    assert RunOutput(output).keys() == before
    assert verify(tmp_path, "--set-aside").exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_parts_are_not_moved_because_the_description_is_of_another_run(finished_run: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(finished_run, tmp_path / "out"))
    run_json(lambda found: found["results"].update(seed=99))(LocalStore(str(output)))
    before = RunOutput(output).keys()
    result = verify(output, "--set-aside")
    assert result.exit_code == 2
    assert "8 of 8 parts" in result.stderr
    assert "put the run.json back that they were made with" in result.stderr
    assert RunOutput(output).keys() == before


def test_what_was_moved_is_told_to_programs(finished_run: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(finished_run, tmp_path / "out"))
    LocalStore(str(output)).delete(IMAGES[3])
    totals = json.loads(verify(output, "--set-aside", "--json").stdout.splitlines()[-1])
    assert (totals["status"], totals["segments_set_aside"], totals["left"]) == ("damaged", 1, 2)
