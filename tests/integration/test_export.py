"""Exports of a real run, opened by the tools that they are made for, and read back into manifests."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from jobs.export.finished_row import FinishedRow
from jobs.export.hub_card import hub_card
from jobs.report.facts import RunFactSheet
from pipeline.store import open_store
from tests.support.exported import export, load_dataset, pixels
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, image_row, mixed_rows, picture, text_row, write_manifest, write_photos
from tests.support.run_output import RunOutput

FORMATS = ("files", "imagefolder", "webdataset", "hf-parquet", "lance")


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, patch: pytest.MonkeyPatch) -> RunOutput:
    """Nine rows of three tasks, images embedded and named, and one that fails."""
    load_models_once(patch)
    folder = tmp_path_factory.mktemp("export")
    write_photos(folder)
    rows = [*mixed_rows(), image_row("wrong", width=30)]
    manifest = write_manifest(folder / "m.parquet", rows)
    run_here(manifest, folder / "out", tiny_checkpoint, pipeline={"segment_rows": 4})
    return RunOutput(folder / "out")


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def expected_pixels(run: RunOutput, row: dict[str, Any]) -> bytes:
    """Of the row's result; of a text, of the image that it is about."""
    if row["output"] is not None:
        data = run.store.get(row["output"])
    else:
        manifest = pq.read_table(Path(run.store.uri).parent / "m.parquet").column("image").to_pylist()
        cell = manifest[row["row"]]
        data = cell["bytes"] or (Path(run.store.uri).parent / cell["path"]).read_bytes()
    return pixels(Image.open(io.BytesIO(data)))


def only_made(row: FinishedRow) -> FinishedRow | None:
    """A hook that leaves out rows without an image of their own."""
    return row if row.cells["output"] is not None else None


def silenced(row: FinishedRow) -> FinishedRow:
    """A hook that takes the words of every answer away."""
    if row.cells["text"] is not None:
        row.cells["text"] = " "
    return row


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_hugging_face_parquet_is_opened_by_datasets_with_images(run: RunOutput, tmp_path: Path) -> None:
    report = export(run, tmp_path / "hf", "hf-parquet")
    assert (report["rows"], report["images"]) == (9, 9)
    loaded = load_dataset(str(tmp_path / "hf"), cache=tmp_path / "cache")["train"]
    rows = run.rows()
    assert [row["id"] for row in loaded] == [row["id"] for row in rows]
    for row, got in zip(rows, loaded, strict=True):
        assert pixels(got["image"]) == expected_pixels(run, row)
        assert (got["text"], got["prompt"], got["seed"], got["note"]) == (
            row["text"],
            row["prompt"],
            row["seed"],
            row["note"],
        )


def test_texts_that_say_nothing_are_counted(run: RunOutput, tmp_path: Path) -> None:
    num_texts = sum(row["text"] is not None for row in run.rows())
    report = export(run, tmp_path / "hf", "hf-parquet", "--hook", "tests.integration.test_export:silenced")
    assert (report["rows"], report["empty_texts"]) == (9, num_texts)


def test_two_exports_into_folders_of_one_name_are_not_taken_for_each_other(run: RunOutput, tmp_path: Path) -> None:
    loaded = []
    for name in ("once", "again"):
        hook = [] if name == "once" else ["--min-words", "3"]
        export(run, tmp_path / name / "hf", "hf-parquet", *hook)
        loaded.append(len(load_dataset(str(tmp_path / name / "hf"), cache=tmp_path / "cache")["train"]))
    assert loaded[0] == 9
    assert 0 < loaded[1] < 9


def test_the_card_of_an_export_says_where_its_rows_come_from(run: RunOutput, tmp_path: Path) -> None:
    export(run, tmp_path / "hf", "hf-parquet")
    card = (tmp_path / "hf" / "README.md").read_text()
    front, body = card.removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(front)["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert "| train | 9 |" in body
    assert "manifest fingerprint" in body


def test_the_card_tells_given_images_from_made_ones(run: RunOutput, tmp_path: Path) -> None:
    words = "The images that the model was given are here too"
    for name, hook in (("all", []), ("made", ["--hook", "tests.integration.test_export:only_made"])):
        export(run, tmp_path / name, "hf-parquet", *hook)
        front, body = (tmp_path / name / "README.md").read_text().removeprefix("---\n").split("---\n", 1)
        assert (words in body) == (name == "all")
        assert "What the model made is synthetic" in body
        assert yaml.safe_load(front)["license"] == "other"
        assert yaml.safe_load(front)["license_name"] == "see-model-and-inputs"


@pytest.mark.parametrize(
    ("has_inputs", "licence"),
    [
        (True, {"license": "other", "license_name": "apache-2.0-and-terms-of-inputs"}),
        (False, {"license": "apache-2.0"}),
    ],
)
def test_what_is_given_keeps_its_own_licence(has_inputs: bool, licence: dict[str, str]) -> None:
    card = hub_card(RunFactSheet({"model": "builtin"}, True), {"train": 1}, "0", has_inputs=has_inputs)
    front, body = card.removeprefix("---\n").split("---\n", 1)
    found = yaml.safe_load(front)
    assert {name: value for name, value in found.items() if name.startswith("license")} == licence
    assert "1 row made by" in body
    assert ("Fill in `license` above" in body) == has_inputs


def test_an_image_folder_is_opened_by_datasets(run: RunOutput, tmp_path: Path) -> None:
    export(run, tmp_path / "folder", "imagefolder")
    loaded = load_dataset("imagefolder", data_dir=str(tmp_path / "folder"), cache=tmp_path / "cache")["train"]
    got = {row["id"]: row for row in loaded}
    for row in run.rows():
        assert pixels(got[row["id"]]["image"]) == expected_pixels(run, row)
        assert got[row["id"]]["words"] == (row["text"] if row["output"] is None else row["prompt"])


@pytest.mark.filterwarnings("ignore")
def test_archives_are_opened_by_webdataset_and_by_datasets(run: RunOutput, tmp_path: Path) -> None:
    import webdataset

    export(run, tmp_path / "tars", "webdataset")
    url = str(tmp_path / "tars" / "train-00000.tar")
    samples = list(webdataset.WebDataset(url, shardshuffle=False).decode("pil"))
    rows = run.rows()
    assert [sample["json"]["id"] for sample in samples] == [row["id"] for row in rows]
    for row, sample in zip(rows, samples, strict=True):
        image = next(value for name, value in sample.items() if isinstance(value, Image.Image))
        assert pixels(image) == expected_pixels(run, row)
        assert sample["txt"] == (row["text"] if row["output"] is None else row["prompt"])


def test_lance_is_opened_by_lance(run: RunOutput, tmp_path: Path) -> None:
    import lance

    export(run, tmp_path / "l", "lance")
    table = lance.dataset(str(tmp_path / "l" / "data.lance")).to_table().to_pylist()
    rows = run.rows()
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    assert [pixels(Image.open(io.BytesIO(row["image"]))) for row in table] == [
        expected_pixels(run, row) for row in rows
    ]


def test_files_are_named_by_row_and_listed(run: RunOutput, tmp_path: Path) -> None:
    export(run, tmp_path / "files", "files")
    listed = [json.loads(line) for line in (tmp_path / "files" / "metadata.jsonl").read_text().splitlines()]
    for row, got in zip(run.rows(), listed, strict=True):
        assert pixels(opened(tmp_path / "files" / got["file_name"])) == expected_pixels(run, row)
        if row["text"] is not None:
            assert (tmp_path / "files" / "texts" / f"{row['row']:010d}.txt").read_text() == row["text"]


@pytest.mark.parametrize("kind", ["webdataset", "hf-parquet"])
def test_an_export_becomes_a_manifest_again(kind: str, run: RunOutput, tmp_path: Path) -> None:
    export(run, tmp_path / "x", kind)
    to = str(tmp_path / "again.parquet")
    arguments = [str(tmp_path / "x"), "--task", "caption", "--to", to, "--rename", "prompt=source_prompt"]
    for name in ("width", "height", "steps", "cfg_scale", "temperature", "preset"):
        arguments += ["--rename", f"{name}=source_{name}"]
    ended = CliRunner().invoke(app, ["manifest", "build", *arguments, "--json"])
    assert ended.exit_code == 0, ended.output
    again = pq.read_table(to).to_pylist()
    for row, got in zip(run.rows(), again, strict=True):
        assert pixels(Image.open(io.BytesIO(got["image"]["bytes"]))) == expected_pixels(run, row)
        assert (got["source_prompt"], got["seed"]) == (row["prompt"], row["seed"])


@pytest.mark.filterwarnings("ignore")
def test_what_datasets_and_webdataset_write_becomes_a_manifest(tmp_path: Path) -> None:
    import datasets
    import webdataset

    pictures = [picture(number) for number in range(3)]
    columns = {"image": pictures, "caption": ["a", "b", "c"]}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(tmp_path / "hf.parquet"))
    with webdataset.TarWriter(str(tmp_path / "w.tar")) as writer:
        for number, image in enumerate(pictures):
            sample = {"__key__": f"{number:03d}", "png": image, "json": {"label": number}, "txt": "abc"[number]}
            writer.write(sample)
    for source, name in (("hf.parquet", "caption"), ("w.tar", "txt")):
        to = str(tmp_path / f"from-{source}.parquet")
        command = [
            "manifest",
            "build",
            str(tmp_path / source),
            "--task",
            "caption",
            "--to",
            to,
            "--rename",
            f"{name}=words",
        ]
        assert CliRunner().invoke(app, command).exit_code == 0
        rows = pq.read_table(to).to_pylist()
        assert [row["words"] for row in rows] == ["a", "b", "c"]
        assert [pixels(Image.open(io.BytesIO(row["image"]["bytes"]))) for row in rows] == list(map(pixels, pictures))


def test_the_same_rows_make_the_same_archives(run: RunOutput, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export(run, tmp_path / name, "webdataset")
    assert (tmp_path / "a/train-00000.tar").read_bytes() == (tmp_path / "b/train-00000.tar").read_bytes()


def test_edits_are_exported_with_their_sources_by_split(
    tmp_path: Path, tiny_checkpoint: Path, patch: pytest.MonkeyPatch
) -> None:
    load_models_once(patch)
    image = encoded(picture(1, (64, 64)))
    schema = pq.ParquetFile(write_manifest(tmp_path / "s.parquet", [])).schema_arrow.append(
        __import__("pyarrow").field("split", "string")
    )
    rows = [text_row(str(n), image, task="edit", prompt="Make it red.", steps=2, split=split)
            for n, split in enumerate(("train", "train", "test"))]  # fmt: skip
    manifest = write_manifest(tmp_path / "m.parquet", rows, schema)
    run_here(manifest, tmp_path / "out", tiny_checkpoint, image_to_image={"resolution": 32})
    out = RunOutput(tmp_path / "out")
    export(out, tmp_path / "pairs", "hf-parquet", "--sources")
    loaded = load_dataset(str(tmp_path / "pairs"), cache=tmp_path / "cache")
    assert {name: len(split) for name, split in loaded.items()} == {"train": 2, "test": 1}
    assert pixels(loaded["test"][0]["source_image"]) == pixels(picture(1, (64, 64)))
    assert loaded["test"][0]["image"].size == (32, 32)


def test_an_export_from_s3_to_s3_has_the_same_files(run: RunOutput, s3_bucket: str, tmp_path: Path) -> None:
    there = open_store(f"s3://{s3_bucket}/out")
    for key in run.store.list():
        there.put(key, run.store.get(key))
    export(RunOutput(there.uri), f"s3://{s3_bucket}/tars", "webdataset")
    export(run, tmp_path / "tars", "webdataset")
    data = open_store(f"s3://{s3_bucket}/tars").get("train-00000.tar")
    assert data == (tmp_path / "tars/train-00000.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames()[0].startswith("0000000000.")


def test_wrong_input_ends_with_2_and_says_what_to_do(run: RunOutput, tmp_path: Path) -> None:
    assert "--to must be one of files" in export(run, tmp_path / "x", "zip", exit_code=2)["message"]
    assert (
        "--drop nothing: there is no such column"
        in export(run, tmp_path / "x", "files", "--drop", "nothing", exit_code=2)["message"]
    )
    assert (
        "build the manifest with dimoo-batch manifest build"
        in export(run, tmp_path / "x", "benchmark", exit_code=2)["message"]
    )
    (tmp_path / "taken").write_bytes(b"")
    assert "is there already: choose an empty folder" in export(run, tmp_path, "files", exit_code=2)["message"]
    assert "is not the output of a run" in export(RunOutput(tmp_path), tmp_path / "y", "files", exit_code=2)["message"]


def test_a_damaged_image_or_an_unfinished_run_is_not_exported(run: RunOutput, tmp_path: Path) -> None:
    copy = open_store(str(tmp_path / "copy"))
    for key in run.store.list():
        if key != "_SUCCESS":
            copy.put(key, run.store.get(key))
    assert "has not ended" in export(RunOutput(copy.uri), tmp_path / "x", "files", exit_code=2)["message"]
    image = next(key for key in copy.list("images/"))
    copy.put(image, b"other bytes")
    message = export(RunOutput(copy.uri), tmp_path / "y", "files", "--partial", exit_code=1)["message"]
    assert image in message
    assert "verify" in message
