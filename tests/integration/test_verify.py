"""``dimoo-batch verify``: nothing is found in a good output; what it says of one that is not, and of none."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from pipeline.errors import RunFailed
from pipeline.storage.errors import AccessDenied, StoreError
from pipeline.storage.local import LocalStore
from pipeline.storage.retry import RetryPolicy
from pipeline.worker.commit import SegmentCommitter
from pipeline.worker.segment import OpenSegment
from tests.support.damage import (
    Damage,
    copy,
    deleted,
    edited_bytes,
    edited_json,
    part,
)
from tests.support.finished_run import IMAGES, check_good, rows, run, verify
from tests.support.manifest_rows import image_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.stub_model import use_stub_model


@pytest.fixture
def output(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may damage."""
    return Path(shutil.copytree(finished_run, tmp_path / "out"))


NUM_SEGMENTS = 8


def check_unfinished(output: Path) -> None:
    """The run is said not to have ended before anything else, and what is not there yet is no damage."""
    result = verify(output)
    assert (result.exit_code, result.stderr) == (1, "")
    first, verdict = result.stdout.splitlines()
    assert first == f"{output}: this run has not ended: re-run its command to resume"
    assert "rows); no damage found: " in verdict
    (totals,) = map(json.loads, verify(output, "--json").stdout.splitlines())
    assert (totals["status"], totals["has_ended"], totals["findings"]) == ("unfinished", False, 0)
    assert totals["done"] + totals["failed"] + totals["left"] == 16


def test_nothing_is_found_in_a_run_with_images_texts_and_failures(output: Path) -> None:
    check_good(output)
    result = verify(output, "--json", "--orphans")
    assert json.loads(result.stdout) == {
        "status": "complete",
        "output": str(output),
        "rows": 16,
        "done": 13,
        "failed": 3,
        "parts": NUM_SEGMENTS,
        "images": 12,
        "findings": 0,
        "orphans": 0,
        "left": 0,
        "has_ended": True,
    }


def test_nothing_is_found_in_runs_of_several_files_with_a_limit_and_other_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub_model(monkeypatch)
    for name in "abc":
        write_manifest(tmp_path / "m" / f"{name}.parquet", [image_row(f"{name}/ü {row}" * 30) for row in range(5)])
    write_manifest(tmp_path / "m" / "ab.parquet", [])
    for kind in ("png", "jpeg", "webp"):
        run(tmp_path / "m", tmp_path / kind, image={"format": kind}, limit=13)
        check_good(tmp_path / kind, 13)


def test_nothing_is_found_in_a_resumed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stub_model(monkeypatch)
    manifest, output = write_manifest(tmp_path / "m.parquet", rows()), tmp_path / "out"
    commit = SegmentCommitter._commit

    def commit_few(committer: SegmentCommitter, segment: OpenSegment) -> None:
        if segment.segment.index == 3:
            raise StoreError("create", "parts/", "ENOSPC")
        commit(committer, segment)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentCommitter, "_commit", commit_few)
        with pytest.raises(RunFailed):
            run(manifest, output)
    check_unfinished(output)
    run(manifest, output)
    check_good(output)


def test_what_a_run_has_yet_to_write_is_no_damage(output: Path) -> None:
    store = LocalStore(str(output))
    for key in ("_SUCCESS", copy(7), part(0), part(3)):
        store.delete(key)
    check_unfinished(output)
    store.delete(IMAGES[2])
    result = verify(output)
    lines = result.stdout.splitlines()
    assert "has not ended" in lines[0]
    assert lines[1] == f"{IMAGES[2]}: object: expected the image of row 2, found nothing"
    assert "rows); 1 finding: " in lines[2]
    assert "; 4 rows left; " in lines[2]
    assert f"verify {output} --set-aside" in result.stderr


def test_findings_are_json_lines_if_asked_for(output: Path) -> None:
    LocalStore(str(output)).delete(IMAGES[3])
    finding, totals = map(json.loads, verify(output, "--json").stdout.splitlines())
    expected = {"object": IMAGES[3], "what": "object", "expected": "the image of row 3", "found": "nothing"}
    assert finding == {"finding": expected | {"part": part(1)}}
    assert (totals["status"], totals["images"], totals["findings"]) == ("damaged", 11, 1)


def test_objects_that_nothing_refers_to_are_counted_and_listed_on_demand(output: Path) -> None:
    orphans = ["_probe/left", "images/0000000/0000000003-old.png", "images/0000001/0000000016-x.png", "notes\n.txt"]
    for key in orphans:
        (output / key).parent.mkdir(exist_ok=True)
        (output / key).write_bytes(b"")
    result = verify(output)
    assert result.exit_code == 0
    assert "complete: 16 rows" in result.stdout
    assert "4 unreferenced objects (list with --orphans)" in result.stdout
    listed = verify(output, "--orphans").stdout.splitlines()[:-1]
    assert sorted(listed) == sorted(f"{key}: unreferenced".replace("\n", "\\n") for key in orphans)
    *lines, _ = map(json.loads, verify(output, "--orphans", "--json").stdout.splitlines())
    assert sorted(line["orphan"] for line in lines) == sorted(orphans)


def test_what_is_known_of_a_worker_s_death_belongs_to_the_run_until_its_segment_is_committed(output: Path) -> None:
    (output / "_suspects").mkdir(exist_ok=True)
    for name in ("0000000-00001", "0000009-00000"):
        (output / "_suspects" / f"{name}.json").write_text("{}")
    assert verify(output, "--orphans").stdout.splitlines()[:-1] == ["_suspects/0000000-00001.json: unreferenced"]


def test_images_of_a_part_that_cannot_be_read_are_no_orphans(output: Path) -> None:
    edited_bytes(part(1), lambda data: data[:-9])(LocalStore(str(output)))
    assert "nothing refers to" not in verify(output, "--orphans").stdout


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (deleted("run.json"), "is not the output of a run: it has no run.json, though parts of one: the run command"),
        (edited_bytes("run.json", lambda data: data[:9]), "run.json does not describe a run: "),
        (edited_json("run.json", lambda found: found.pop("results")), "it has no results"),
        (edited_json("run.json", lambda found: found.update(rows="16")), "rows must be a number from 0, got '16'"),
        (
            edited_json("run.json", lambda found: found["results"].update(segment_rows=0)),
            "segment_rows must be a number from 1",
        ),
        (
            edited_json("run.json", lambda found: found["results"].update(image_format="gif")),
            "one of png, jpeg, webp, got 'gif'",
        ),
    ],
)
def test_what_is_no_run_ends_with_2(damage: Damage, words: str, output: Path) -> None:
    damage(LocalStore(str(output)))
    result = verify(output)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert str(output) in result.stderr


def test_a_place_that_does_not_exist_is_no_run(tmp_path: Path) -> None:
    assert verify(tmp_path / "none").exit_code == 2
    assert verify("https://example.org/out").exit_code == 2


def refuse_image(error: StoreError, patch: pytest.MonkeyPatch) -> None:
    """From now on one image cannot be read, and nobody waits for it."""
    read = LocalStore.get_range

    def get_range(store: LocalStore, key: str, start: int, length: int) -> bytes:
        if key == IMAGES[3]:
            raise error
        return read(store, key, start, length)

    stopped = threading.Event()
    stopped.set()
    patch.setattr(LocalStore, "get_range", get_range)
    patch.setattr("pipeline.verify.audit.RetryPolicy", lambda stop: RetryPolicy(stopped))


def test_an_image_that_may_not_be_read_is_a_finding(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_image(AccessDenied("read", "its uri", "EACCES"), monkeypatch)
    result = verify(output)
    assert result.exit_code == 1
    assert f"{IMAGES[3]}: object: expected the image of row 3, found cannot read its uri: EACCES" in result.stdout


def test_a_store_out_of_reach_says_nothing_about_the_run(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_image(StoreError("read", "its uri", "SlowDown", retryable=True), monkeypatch)
    result = verify(output)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot read its uri: SlowDown" in result.stderr


def test_the_output_is_only_read(output: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    verify(output, "--orphans")
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
    assert RunOutput(output).success() == {"rows_done": 13, "rows_failed": 3}
