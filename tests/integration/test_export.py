"""Exports of a real run, opened by the tools that they are made for, and read back into manifests."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from jobs.export.rows import FinishedRow
from pipeline.storage.reader import open_store
from tests.support.exported import expected_pixels, export, pixels
from tests.support.run_output import RunOutput


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def silenced(row: FinishedRow) -> FinishedRow:
    """A hook that takes the words of every answer away."""
    if row.cells["text"] is not None:
        row.cells["text"] = " "
    return row


def test_texts_that_say_nothing_are_counted(run_to_export: RunOutput, tmp_path: Path) -> None:
    num_texts = sum(row["text"] is not None for row in run_to_export.rows())
    report = export(run_to_export, tmp_path / "hf", "hf-parquet", "--hook", "tests.integration.test_export:silenced")
    assert (report["rows"], report["empty_texts"]) == (9, num_texts)


@pytest.mark.filterwarnings("ignore")
def test_archives_are_opened_by_webdataset_and_by_datasets(run_to_export: RunOutput, tmp_path: Path) -> None:
    import webdataset

    export(run_to_export, tmp_path / "tars", "webdataset")
    url = str(tmp_path / "tars" / "train-00000.tar")
    samples = list(webdataset.WebDataset(url, shardshuffle=False).decode("pil"))
    rows = run_to_export.rows()
    assert [sample["json"]["id"] for sample in samples] == [row["id"] for row in rows]
    for row, sample in zip(rows, samples, strict=True):
        image = next(value for name, value in sample.items() if isinstance(value, Image.Image))
        assert pixels(image) == expected_pixels(run_to_export, row)
        assert sample["txt"] == (row["text"] if row["output"] is None else row["prompt"])


def test_lance_is_opened_by_lance(run_to_export: RunOutput, tmp_path: Path) -> None:
    import lance

    export(run_to_export, tmp_path / "l", "lance")
    table = lance.dataset(str(tmp_path / "l" / "data.lance")).to_table().to_pylist()
    rows = run_to_export.rows()
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    assert [pixels(Image.open(io.BytesIO(row["image"]))) for row in table] == [
        expected_pixels(run_to_export, row) for row in rows
    ]


def test_files_are_named_by_row_and_listed(run_to_export: RunOutput, tmp_path: Path) -> None:
    export(run_to_export, tmp_path / "files", "files")
    listed = [json.loads(line) for line in (tmp_path / "files" / "metadata.jsonl").read_text().splitlines()]
    for row, got in zip(run_to_export.rows(), listed, strict=True):
        assert pixels(opened(tmp_path / "files" / got["file_name"])) == expected_pixels(run_to_export, row)
        if row["text"] is not None:
            assert (tmp_path / "files" / "texts" / f"{row['row']:010d}.txt").read_text() == row["text"]


@pytest.mark.parametrize("kind", ["webdataset", "hf-parquet"])
def test_an_export_becomes_a_manifest_again(kind: str, run_to_export: RunOutput, tmp_path: Path) -> None:
    export(run_to_export, tmp_path / "x", kind)
    to = str(tmp_path / "again.parquet")
    arguments = [str(tmp_path / "x"), "--task", "caption", "--to", to, "--rename", "prompt=source_prompt"]
    for name in ("width", "height", "steps", "cfg_scale", "temperature", "preset"):
        arguments += ["--rename", f"{name}=source_{name}"]
    ended = CliRunner().invoke(app, ["manifest", "build", *arguments, "--json"])
    assert ended.exit_code == 0, ended.output
    again = pq.read_table(to).to_pylist()
    for row, got in zip(run_to_export.rows(), again, strict=True):
        assert pixels(Image.open(io.BytesIO(got["image"]["bytes"]))) == expected_pixels(run_to_export, row)
        assert (got["source_prompt"], got["seed"]) == (row["prompt"], row["seed"])


def test_the_same_rows_make_the_same_archives(run_to_export: RunOutput, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export(run_to_export, tmp_path / name, "webdataset")
    assert (tmp_path / "a/train-00000.tar").read_bytes() == (tmp_path / "b/train-00000.tar").read_bytes()


def test_an_export_from_s3_to_s3_has_the_same_files(run_to_export: RunOutput, s3_bucket: str, tmp_path: Path) -> None:
    there = open_store(f"s3://{s3_bucket}/out")
    for key in run_to_export.store.list():
        there.put(key, run_to_export.store.get(key))
    export(RunOutput(there.uri), f"s3://{s3_bucket}/tars", "webdataset")
    export(run_to_export, tmp_path / "tars", "webdataset")
    data = open_store(f"s3://{s3_bucket}/tars").get("train-00000.tar")
    assert data == (tmp_path / "tars/train-00000.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames()[0].startswith("0000000000.")


def test_wrong_input_ends_with_2_and_says_what_to_do(run_to_export: RunOutput, tmp_path: Path) -> None:
    assert "--to must be one of files" in export(run_to_export, tmp_path / "x", "zip", exit_code=2)["message"]
    assert (
        "--drop nothing: there is no such column"
        in export(run_to_export, tmp_path / "x", "files", "--drop", "nothing", exit_code=2)["message"]
    )
    assert (
        "build the manifest with dimoo-batch manifest build"
        in export(run_to_export, tmp_path / "x", "benchmark", exit_code=2)["message"]
    )
    (tmp_path / "taken").write_bytes(b"")
    assert "exists already: choose an empty folder" in export(run_to_export, tmp_path, "files", exit_code=2)["message"]
    assert "is not the output of a run" in export(RunOutput(tmp_path), tmp_path / "y", "files", exit_code=2)["message"]


def test_a_damaged_image_or_an_unfinished_run_is_not_exported(run_to_export: RunOutput, tmp_path: Path) -> None:
    copy = open_store(str(tmp_path / "copy"))
    for key in run_to_export.store.list():
        if key != "_SUCCESS":
            copy.put(key, run_to_export.store.get(key))
    assert "has not ended" in export(RunOutput(copy.uri), tmp_path / "x", "files", exit_code=2)["message"]
    image = next(key for key in copy.list("images/"))
    copy.put(image, b"other bytes")
    message = export(RunOutput(copy.uri), tmp_path / "y", "files", "--partial", exit_code=1)["message"]
    assert image in message
    assert "verify" in message
