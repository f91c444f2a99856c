"""The report of real runs, on a disk and on S3."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from jobs.report.write import write_report
from pipeline.storage.reader import open_store
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest


@pytest.fixture
def output(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run: a large image, a small one, an answer, and a row that failed."""
    load_models_once(monkeypatch)
    rows = [
        image_row("large", width=336, height=32),
        image_row("small", note="kept"),
        text_row("answer", encoded(picture(1))),
        text_row("broken", b"no image") | {"note": "sku 17"},
    ]
    write_manifest(tmp_path / "m.parquet", rows)
    run_here(tmp_path / "m.parquet", tmp_path / "out", tiny_checkpoint)
    return tmp_path / "out"


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def size_of(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def rows_on_page(output: str) -> dict[str, dict[str, Any]]:
    page = open_store(output).get("report/index.html").decode()
    text = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    return {row["id"]: row for row in json.loads(text)["first"]}


def test_the_page_has_every_row_with_its_pictures(output: Path) -> None:
    ended = command(output, "--json")
    assert ended.exit_code == 0, ended.output
    summary = json.loads(ended.stdout)
    assert (summary["rows"], summary["shown"], summary["failed"], summary["pictures_missing"]) == (4, 4, 1, 0)
    rows = rows_on_page(str(output))
    assert rows["large"]["thumb"].startswith("report/thumbs/")
    assert max(size_of(output / rows["large"]["thumb"])) == 320
    assert rows["small"]["thumb"] == rows["small"]["image"]
    assert rows["small"]["extra"] == {"note": "kept"}
    assert size_of(output / rows["answer"]["source"]) == picture(1).size
    assert rows["answer"]["text"]
    assert (rows["broken"]["ok"], rows["broken"]["stage"], rows["broken"]["task"]) == (0, "decode", "vqa")
    assert rows["broken"]["extra"] == {"failure_class": "bad_input", "attempts": 1, "note": "sku 17"}
    assert size_of(summary["contact_sheet"])[0] > 240
    assert "# m\n" in Path(summary["card"]).read_text()


def test_the_code_of_the_card_runs_in_the_output(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(output).exit_code == 0
    (code,) = re.findall(r"```python\n(.*?)```", (output / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(output)
    names: dict[str, Any] = {}
    exec(code, names)  # as a reader of the card would
    assert sorted(names["table"].column("id").to_pylist()) == ["answer", "large", "small"]


def test_a_second_report_makes_no_picture_again(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(output).exit_code == 0
    monkeypatch.setattr("jobs.report.pictures.PictureShelf._put", lambda *arguments: pytest.fail("made again"))
    assert command(output).exit_code == 0


def test_a_complete_output_stays_complete_with_its_report(output: Path) -> None:
    assert command(output).exit_code == 0
    ended = CliRunner().invoke(app, ["verify", str(output), "--json"])
    assert ended.exit_code == 0
    assert json.loads(ended.stdout.splitlines()[-1])["orphans"] == 0


def test_an_image_that_is_gone_is_told_and_does_not_stop_the_report(output: Path) -> None:
    (image,) = output.glob("images/*/*-large.png")
    image.unlink()
    ended = command(output)
    assert ended.exit_code == 0
    assert "1 images cannot be read" in ended.stderr
    assert "thumb" not in rows_on_page(str(output))["large"]


def test_without_its_manifest_a_report_says_what_it_lacks(output: Path) -> None:
    (output.parent / "moved").mkdir()
    (output.parent / "m.parquet").rename(output.parent / "moved" / "m.parquet")
    ended = command(output)
    assert ended.exit_code == 0
    assert "--manifest says where the manifest is" in ended.stderr
    assert "source" not in rows_on_page(str(output))["answer"]
    assert command(output, "--manifest", output.parent / "moved" / "m.parquet").exit_code == 0
    assert "source" in rows_on_page(str(output))["answer"]


def test_the_manifest_of_another_run_is_refused(output: Path) -> None:
    other = write_manifest(output.parent / "other.parquet", [image_row("other")])
    ended = command(output, "--manifest", other)
    assert ended.exit_code == 2
    assert "is not the manifest of this run" in ended.stderr


def test_what_is_no_output_is_refused(tmp_path: Path) -> None:
    ended = command(tmp_path)
    assert ended.exit_code == 2
    assert "is not the output of a run" in ended.stderr


def test_of_many_rows_every_nth_is_shown_and_all_are_counted(output: Path) -> None:
    summary = write_report(str(output), manifest=None, max_rows=2)
    assert (summary.rows, summary.failed) == (4, 1)
    assert list(rows_on_page(str(output))) == ["large", "answer"]


def test_on_s3_the_files_have_the_types_that_browsers_need(
    s3_bucket: str, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    load_models_once(monkeypatch)
    buffer = io.BytesIO()
    picture(3, (700, 400)).save(buffer, format="PNG")
    manifest = write_manifest(tmp_path / "m.parquet", [text_row("seen", buffer.getvalue())])
    output = f"s3://{s3_bucket}/out"
    run_here(manifest, output, tiny_checkpoint)
    assert command(output).exit_code == 0
    client = boto3.client("s3")
    kinds = {
        key: client.head_object(Bucket=s3_bucket, Key=f"out/{key}")["ContentType"]
        for key in ("report/index.html", "README.md", rows_on_page(output)["seen"]["source"])
    }
    assert list(kinds.values()) == ["text/html; charset=utf-8", "text/markdown; charset=utf-8", "image/webp"]
