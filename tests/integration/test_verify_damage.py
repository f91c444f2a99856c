"""``dimoo-batch verify`` finds every damage of a run by name, on a disk and on S3."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage.base import Store
from pipeline.storage.local import LocalStore
from pipeline.storage.reader import open_store
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
    run_json,
    swapped,
)
from tests.support.finished_run import IMAGES, check_good, verify
from tests.support.s3_server import S3Server


@pytest.fixture
def output(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may damage."""
    return Path(shutil.copytree(finished_run, tmp_path / "out"))


OTHER_ID = "images/0000000/0000000002-other.png"


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
        f"{part(1)}: first row: expected 3, by its name and 3 rows per segment, found 2",
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
    noun = "finding" if len(findings) == 1 else "findings"
    assert f"; {len(findings)} {noun}: " in verdict
    assert f"next: dimoo-batch verify {output} --set-aside" in result.stderr


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
    assert "images/0000000/0000000003-old.png: unreferenced" in result.stdout.splitlines()
    assert verify(f"s3://{s3_output.uri.split('/')[2]}/none").exit_code == 2
