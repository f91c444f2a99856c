"""``dimoo-batch manifest validate`` and ``show``."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests.support.manifest_rows import encoded, image_row, mixed_rows, picture, text_row, write_manifest, write_photos
from tests.unit.jobs.test_cli import imported_after


def command(*arguments: object, exit_code: int = 0) -> str:
    ended = CliRunner().invoke(app, ["manifest", *map(str, arguments)])
    assert ended.exit_code == exit_code, ended.output
    return ended.stdout if exit_code in (0, 3) else ended.stderr


def test_a_valid_manifest_is_counted_by_task(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "m.parquet", mixed_rows())
    assert "9 rows: 9 valid (5 text_to_image, 2 vqa, 2 caption), 0 invalid" in command("validate", path)


def test_invalid_rows_are_told_with_the_runs_own_words(tmp_path: Path) -> None:
    rows = [image_row("a", width=30), image_row("b"), image_row("b"), text_row("c", encoded(picture()))]
    path = write_manifest(tmp_path / "m.parquet", rows)
    *failures, totals = map(json.loads, command("validate", path, "--json", exit_code=3).splitlines())
    assert [(failure["row"], failure["message"]) for failure in failures] == [
        (0, "width must be a multiple of 16 from 16 to 2048, got 30"),
        (2, "id 'b' is already the id of row 1: give each row a unique id"),
    ]
    assert totals == {"rows": 4, "valid": 2, "invalid": 2, "tasks": {"text_to_image": 1, "vqa": 1}}


def test_images_are_read_when_asked(tmp_path: Path) -> None:
    write_photos(tmp_path)
    (tmp_path / "photos" / "bad.png").write_bytes(b"bad")
    names = ("photos/a.png", "photos/none.png", "photos/bad.png")
    path = write_manifest(tmp_path / "m.parquet", [text_row(name, name) for name in names])
    assert "3 valid" in command("validate", path)
    shown = command("validate", path, "--images", exit_code=3)
    assert "row 1 (photos/none.png), fetch: " in shown
    assert "row 2 (photos/bad.png), decode: photos/bad.png is not an image" in shown


def test_wrong_columns_end_with_2(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    assert "no such column" in command("validate", path, "--set", "passthrough=[x]", exit_code=2)


def test_show_tells_columns_and_rows_of_any_manifest(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "m.parquet", mixed_rows())
    shown = command("show", path, "--rows", 2)
    assert "9 rows in 1 file, " in shown
    assert "note             string       passes through" in shown
    assert "task             string       what to do; dimoo-batch tasks lists the names" in shown
    assert "row 1\n" in shown
    assert "row 2\n" not in shown
    lines = command("show", path, "--start", 7, "--rows", 9, "--json").splitlines()
    assert [json.loads(line)["row"] for line in lines] == [7, 8]


def test_one_row_is_told_as_one(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "m.parquet", [image_row("a", width=30)])
    assert "1 row: 0 valid, 1 invalid\n" in command("validate", path, exit_code=3)
    assert f"{path}: 1 row in 1 file, " in command("show", path)


@pytest.mark.parametrize("name", ["build", "validate", "show"])
def test_help_has_examples_and_needs_nothing_heavy(name: str) -> None:
    assert f"dimoo-batch manifest {name} " in command(name, "--help")
    code = f"import jobs.cli\ntry: jobs.cli.app(['manifest', {name!r}, '--help'])\nexcept SystemExit: pass"
    assert imported_after(code) == set()
