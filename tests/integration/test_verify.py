"""``dimoo-batch verify``: nothing is found in a good output, and every damage is, by name."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.errors import AccessDenied, RunFailed, StoreError
from pipeline.local_store import LocalStore
from pipeline.open_segment import OpenSegment
from pipeline.retry import Patience
from pipeline.settlement import Settlement
from pipeline.store import Store, open_store
from tests.support.damage import (
    Damage,
    copied,
    copy,
    deleted,
    edited,
    edited_bytes,
    edited_json,
    flipped,
    in_first_page,
    moved,
    part,
    swapped,
)
from tests.support.in_process import run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.s3_server import S3Server
from tests.support.stub_model import use_stub_model

NUM_SEGMENTS = 8
IMAGES = [f"images/0000000/{row:010d}-image{row}.png" for row in range(12)]
OTHER_ID = "images/0000000/0000000002-other.png"


def rows() -> list[dict[str, Any]]:
    """Twelve images, two rows of which one fails, two of which both do."""
    fails = {"bytes": b"no image", "path": None}
    return [
        *(image_row(f"image{row}") for row in range(12)),
        text_row("text", encoded(picture(0, (32, 32)))),
        text_row("fails", b"no image"),
        text_row("fails too", b"no image") | {"image": fails},
        text_row("fails as well", b"no image"),
    ]


def run(manifest: object, output: object, **spec: Any) -> Any:
    return run_here(manifest, output, Path("stub"), **{"pipeline": {"segment_rows": 2}} | spec)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        use_stub_model(patch)
        run(write_manifest(folder / "m.parquet", rows()), folder / "out")
        run(folder / "m.parquet", folder / "other", seed=1)
    return folder / "out"


@pytest.fixture
def output(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may damage."""
    return Path(shutil.copytree(finished_run, tmp_path / "out"))


def verify(output: object, *flags: str) -> Any:
    return CliRunner().invoke(app, ["verify", str(output), *flags])


def check_good(output: object, num_rows: int = 16) -> None:
    result = verify(output)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1), result.stdout + result.stderr
    assert f"complete: {num_rows} rows" in result.stdout
    assert "nothing refers to" not in result.stdout


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
    commit = Settlement._commit

    def commit_few(settlement: Settlement, segment: OpenSegment) -> None:
        if segment.segment.index == 3:
            raise StoreError("create", "parts/", "ENOSPC")
        commit(settlement, segment)

    with monkeypatch.context() as patch:
        patch.setattr(Settlement, "_commit", commit_few)
        with pytest.raises(RunFailed):
            run(manifest, output)
    result = verify(output)
    assert result.exit_code == 1
    assert "_SUCCESS: object: expected the totals of a run that has ended, found nothing" in result.stdout
    run(manifest, output)
    check_good(output)


def run_json(change: Callable[[dict[str, Any]], Any]) -> Damage:
    return edited_json("run.json", change)


def swap_outputs(found: list[dict[str, Any]]) -> None:
    for name in ("output", "sha256", "bytes"):
        found[0][name], found[1][name] = found[1][name], found[0][name]


def another_runs_part(store: Store) -> None:
    other = LocalStore(str(Path(store.uri) / "../other-run"))
    store.put(part(1), other.get(part(1)))


def fail_row_12_too(failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [failures[0] | {"row": 12}, *failures]


def keep(value: Any) -> Any:
    return value


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a part is missing": (deleted(part(1)), f"parts/: rows 2 to 3: expected in a part after {part(0)}, found in none"),
    "the first part is missing": (deleted(part(0)), "parts/: rows 0 to 1: expected in a part at the start"),
    "the last part is missing": (deleted(part(7)), f"parts/: rows 14 to 15: expected in a part after {part(6)}"),
    "a part is cut off": (
        edited_bytes(part(1), lambda data: data[:-9]),
        f"{part(1)}: content: expected a readable part, found ArrowInvalid",
    ),
    "a part is empty": (edited_bytes(part(1), lambda data: b""), f"{part(1)}: content: expected a readable part"),
    "a bit of a page is flipped": (
        edited_bytes(part(1), flipped(in_first_page)),
        f"{part(1)}: content: expected a readable part, found OSError",
    ),
    "a part is of another run": (another_runs_part, f"{part(1)}: dimoo.run: expected "),
    "a part is there twice": (
        copied(part(1), part(8)),
        f"{part(8)}: rows: expected rows from 16 on, found rows 2 to 3",
    ),
    "a part has another's name": (moved(part(7), part(9)), f"{part(9)}: first row: expected 18"),
    "a part has the name of another shard": (
        moved(part(7), "parts/0000004-00000.parquet"),
        "parts/0000004-00000.parquet: name: expected 0000001-00000",
    ),
    "a row is missing in a part": (
        edited(part(1), lambda found: found[1:]),
        f"{part(1)}: dimoo.num_done: expected 1, found 2",
    ),
    "a row is missing and not counted": (
        edited(part(1), lambda found: found[1:], num_done=lambda count: 1),
        "parts/: row 2: expected in a part",
    ),
    "a row is there twice": (
        edited(part(1), lambda found: [found[0], *found], num_done=lambda count: 3),
        f"{part(1)}: row 2: expected once, found twice",
    ),
    "a row has another number": (
        edited(part(7), keep, failures=lambda found: [found[0], found[1] | {"row": 99}]),
        f"{part(7)}: rows 15 to 98: expected once",
    ),
    "a failure is lost from a part": (
        edited(part(7), keep, failures=lambda found: found[:1]),
        "parts/: row 15: expected in a part",
    ),
    "a finished row has failed too": (
        edited(part(6), keep, failures=fail_row_12_too),
        f"{part(6)}: row 12: expected once, found twice",
    ),
    "failures are no failures": (
        edited(part(7), keep, failures=lambda found: [14, 15]),
        f"{part(7)}: dimoo.failures: expected a list of failures",
    ),
    "an image is missing": (deleted(IMAGES[3]), f"{IMAGES[3]}: object: expected the image of row 3, found nothing"),
    "an image is cut off": (
        edited_bytes(IMAGES[3], lambda data: data[:-1]),
        f"{IMAGES[3]}: size: expected ",
    ),
    "an image is empty": (edited_bytes(IMAGES[3], lambda data: b""), f"{IMAGES[3]}: size: expected "),
    "an image has grown": (edited_bytes(IMAGES[3], lambda data: data + b" "), f"{IMAGES[3]}: size: expected "),
    "a bit of an image is flipped": (
        edited_bytes(IMAGES[3], flipped(lambda data: len(data) - 1)),
        f"{IMAGES[3]}: sha256: expected ",
    ),
    "images of two rows are swapped": (swapped(IMAGES[2], IMAGES[3]), f"{IMAGES[2]}: s"),
    "outputs of two rows are swapped in a part": (
        edited(part(1), swap_outputs),
        f"{part(1)}: output of row 2: expected {IMAGES[2]}, found {IMAGES[3]}",
    ),
    "an id is changed in a part": (
        edited(part(1), lambda found: found[0].update(id="other")),
        f"{part(1)}: outputs of row 2: expected {OTHER_ID}",
    ),
    "a checksum is changed in a part": (
        edited(part(1), lambda found: found[0]["outputs"][0].update(sha256="0" * 64)),
        f"{IMAGES[2]}: sha256: expected {'0' * 64}",
    ),
    "a checksum of a row's own image is changed in a part": (
        edited(part(1), lambda found: found[0].update(sha256="0" * 64)),
        f"{part(1)}: sha256 of row 2: expected ",
    ),
    "images of a row are lost from a part": (
        edited(part(1), lambda found: found[0].update(outputs=[])),
        f"{part(1)}: output of row 2: expected none without outputs, found {IMAGES[2]}",
    ),
    "an image of a row is there twice in a part": (
        edited(part(1), lambda found: found[0].update(outputs=found[0]["outputs"] * 2)),
        f"{part(1)}: outputs of row 2: expected {IMAGES[2].removesuffix('.png')}-1.png, found {IMAGES[2]}",
    ),
    "a width is changed in a part": (
        edited(part(1), lambda found: found[0]["outputs"][0].update(width=3)),
        f"{IMAGES[2]}: image: expected png of 3x2 pixels, found png of 2x2 pixels",
    ),
    "a checksum is lost from a part": (
        edited(part(1), lambda found: found[0].update(sha256=None)),
        f"{part(1)}: row 2: expected a text, or an image with width, height, sha256 and bytes",
    ),
    "a text is lost from a part": (
        edited(part(6), lambda found: found[0].update(text=None)),
        f"{part(6)}: row 12: expected a text, or an image",
    ),
    "a copy of failures is missing": (
        deleted(copy(7)),
        f"{copy(7)}: object: expected a copy of the 2 failures in {part(7)}, found nothing",
    ),
    "a copy of failures tells something else": (
        edited(copy(7), lambda found: found[1].update(message="all is well")),
        f"{copy(7)}: message of row 15: expected ",
    ),
    "a copy of failures lacks one": (
        edited(copy(7), lambda found: found[:1]),
        f"{copy(7)}: rows: expected 2, found 1",
    ),
    "a copy of failures is damaged": (
        edited_bytes(copy(7), flipped(in_first_page)),
        f"{copy(7)}: content: expected a copy of the 2 failures in {part(7)}, found OSError",
    ),
    "failures of a segment without any": (
        copied(copy(7), copy(1)),
        f"{copy(1)}: object: expected nothing, since no failure stands there, found a file",
    ),
    "failures of no segment": (
        copied(copy(7), copy(9)),
        f"{copy(9)}: object: expected a copy from {part(9)}, found no such part",
    ),
    "a strange file among the parts": (
        copied(part(1), "parts/backup.parquet"),
        "parts/backup.parquet: name: expected <shard>-<segment>[-r<n>].parquet",
    ),
    "success is missing": (deleted("_SUCCESS"), "_SUCCESS: object: expected the totals of a run that has ended"),
    "success tells other totals": (
        edited_json("_SUCCESS", lambda found: found.update(rows_done=16, rows_failed=0)),
        '_SUCCESS: totals: expected {"rows_done": 13, "rows_failed": 3}, found {"rows_done": 16, "rows_failed": 0}',
    ),
    "success is no JSON": (edited_bytes("_SUCCESS", lambda data: b""), "_SUCCESS: content: expected "),
    "the run has more rows": (run_json(lambda found: found.update(rows=17)), "parts/: row 16: expected in a part"),
    "the run has fewer rows": (
        run_json(lambda found: found.update(rows=15)),
        f"{part(7)}: rows: expected rows up to 14, as run.json says, found rows 14 to 15",
    ),
    "the run has other segments": (
        run_json(lambda found: found["results"].update(segment_rows=3)),
        f"{part(1)}: first row: expected 3, by its name and 3 rows a segment, found 2",
    ),
    "the run has smaller segments": (
        run_json(lambda found: found["results"].update(segment_rows=1)),
        f"{part(0)}: rows: expected at most 1, found 2",
    ),
    "the run has another manifest": (
        run_json(lambda found: found["results"].update(manifest_fingerprint="0" * 32)),
        f"{part(0)}: dimoo.run: expected ",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_planted_damage_is_found(name: str, output: Path, finished_run: Path) -> None:
    damage, expected = DAMAGES[name]
    (output.parent / "other-run").symlink_to(finished_run.parent / "other")
    damage(LocalStore(str(output)))
    result = verify(output)
    assert result.exit_code == 1, result.stdout + result.stderr
    *findings, verdict = result.stdout.splitlines()
    assert any(line.startswith(expected) for line in findings), result.stdout
    assert f"NOT complete, {len(findings)} findings" in verdict


def test_findings_are_json_lines_if_asked_for(output: Path) -> None:
    LocalStore(str(output)).delete(IMAGES[3])
    finding, totals = map(json.loads, verify(output, "--json").stdout.splitlines())
    expected = {"object": IMAGES[3], "what": "object", "expected": "the image of row 3", "found": "nothing"}
    assert finding == {"finding": expected}
    assert (totals["status"], totals["images"], totals["findings"]) == ("damaged", 11, 1)


def test_objects_that_nothing_refers_to_are_counted_and_listed_on_demand(output: Path) -> None:
    orphans = ["_probe/left", "images/0000000/0000000003-old.png", "images/0000001/0000000016-x.png", "notes\n.txt"]
    for key in orphans:
        (output / key).parent.mkdir(exist_ok=True)
        (output / key).write_bytes(b"")
    result = verify(output)
    assert result.exit_code == 0
    assert "complete: 16 rows" in result.stdout
    assert "4 objects that nothing refers to, --orphans lists them" in result.stdout
    listed = verify(output, "--orphans").stdout.splitlines()[:-1]
    assert sorted(listed) == sorted(f"{key}: nothing refers to it".replace("\n", "\\n") for key in orphans)
    *lines, _ = map(json.loads, verify(output, "--orphans", "--json").stdout.splitlines())
    assert sorted(line["orphan"] for line in lines) == sorted(orphans)


def test_images_of_a_part_that_cannot_be_read_are_no_orphans(output: Path) -> None:
    edited_bytes(part(1), lambda data: data[:-9])(LocalStore(str(output)))
    assert "nothing refers to" not in verify(output, "--orphans").stdout


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (deleted("run.json"), "is not the output of a run: it has no run.json"),
        (edited_bytes("run.json", lambda data: data[:9]), "run.json does not describe a run: "),
        (edited_json("run.json", lambda found: found.pop("results")), "it has no results"),
        (edited_json("run.json", lambda found: found.update(rows="16")), "rows must be a number from 0, got '16'"),
        (run_json(lambda found: found["results"].update(segment_rows=0)), "segment_rows must be a number from 1"),
        (run_json(lambda found: found["results"].update(image_format="gif")), "one of png, jpeg, webp, got 'gif'"),
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


@pytest.fixture
def s3_output(finished_run: Path, s3_env: S3Server, s3_bucket: str) -> Iterator[Store]:
    store = open_store(f"s3://{s3_bucket}/a run")
    for path in finished_run.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(finished_run).as_posix(), path.read_bytes())
    yield store
    store.close()


def test_a_run_on_s3_is_checked_alike(s3_output: Store) -> None:
    check_good(s3_output.uri)
    names = ("a bit of a page is flipped", "a copy of failures is missing")
    for name in names:
        DAMAGES[name][0](s3_output)
    edited_bytes(IMAGES[5], lambda data: data[:-1])(s3_output)
    s3_output.put("images/0000000/0000000003-old.png", b"")
    result = verify(s3_output.uri, "--orphans")
    assert result.exit_code == 1
    for start in (*(DAMAGES[name][1] for name in names), f"{IMAGES[5]}: size: expected "):
        assert any(line.startswith(start) for line in result.stdout.splitlines()), result.stdout
    assert "images/0000000/0000000003-old.png: nothing refers to it" in result.stdout.splitlines()
    assert verify(f"s3://{s3_output.uri.split('/')[2]}/none").exit_code == 2


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
    patch.setattr("pipeline.run_audit.Patience", lambda stop: Patience(stopped))


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
