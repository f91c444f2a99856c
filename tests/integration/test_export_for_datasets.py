"""Exports of a real run as Hugging Face ``datasets`` opens them, with their cards."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from dimoo_core.errors import ConfigError
from jobs.cli import app
from jobs.export.huggingface import hub_card, hub_features
from jobs.export.rows import FinishedRow
from jobs.report.facts import RunFactSheet
from tests.support.exported import expected_pixels, export, load_dataset, pixels
from tests.support.in_process import run_here
from tests.support.manifest_rows import encoded, picture, text_row, write_manifest
from tests.support.run_output import RunOutput


def only_made(row: FinishedRow) -> FinishedRow | None:
    """A hook that leaves out rows without an image of their own."""
    return row if row.cells["output"] is not None else None


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_hugging_face_parquet_is_opened_by_datasets_with_images(run_to_export: RunOutput, tmp_path: Path) -> None:
    report = export(run_to_export, tmp_path / "hf", "hf-parquet")
    assert (report["rows"], report["images"]) == (9, 9)
    loaded = load_dataset(str(tmp_path / "hf"), cache=tmp_path / "cache")["train"]
    rows = run_to_export.rows()
    assert [row["id"] for row in loaded] == [row["id"] for row in rows]
    for row, got in zip(rows, loaded, strict=True):
        assert pixels(got["image"]) == expected_pixels(run_to_export, row)
        assert (got["text"], got["prompt"], got["seed"], got["note"]) == (
            row["text"],
            row["prompt"],
            row["seed"],
            row["note"],
        )


def test_two_exports_into_folders_of_one_name_are_not_taken_for_each_other(
    run_to_export: RunOutput, tmp_path: Path
) -> None:
    loaded = []
    for name in ("once", "again"):
        hook = [] if name == "once" else ["--min-words", "3"]
        export(run_to_export, tmp_path / name / "hf", "hf-parquet", *hook)
        loaded.append(len(load_dataset(str(tmp_path / name / "hf"), cache=tmp_path / "cache")["train"]))
    assert loaded[0] == 9
    assert 0 < loaded[1] < 9


def test_the_card_of_an_export_says_where_its_rows_come_from(run_to_export: RunOutput, tmp_path: Path) -> None:
    export(run_to_export, tmp_path / "hf", "hf-parquet")
    card = (tmp_path / "hf" / "README.md").read_text()
    front, body = card.removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(front)["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert "| train | 9 |" in body
    assert "manifest fingerprint" in body


def test_the_card_tells_given_images_from_made_ones(run_to_export: RunOutput, tmp_path: Path) -> None:
    words = "The input images are included"
    for name, hook in (("all", []), ("made", ["--hook", "tests.integration.test_export_for_datasets:only_made"])):
        export(run_to_export, tmp_path / name, "hf-parquet", *hook)
        front, body = (tmp_path / name / "README.md").read_text().removeprefix("---\n").split("---\n", 1)
        assert (words in body) == (name == "all")
        assert "The results are synthetic" in body
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


_TYPES = [
    *(pa.null(), pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
    *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.date32(), pa.date64()),
    *(pa.timestamp("s"), pa.timestamp("us", "Europe/Berlin"), pa.time32("ms"), pa.time64("ns"), pa.duration("us")),
    *(pa.decimal128(10, 2), pa.decimal256(40, 2), pa.list_(pa.int64()), pa.list_(pa.float32(), 3)),
    *(pa.large_list(pa.string()), pa.struct([("a", pa.list_(pa.struct([("b", pa.float64())]))), ("c", pa.bool_())])),
]


@pytest.mark.filterwarnings("ignore")
def test_columns_of_every_type_are_the_features_that_datasets_makes_of_them() -> None:
    import datasets

    schema = pa.schema([(f"column{number}", dtype) for number, dtype in enumerate(_TYPES)])
    assert hub_features(schema) == datasets.Features.from_arrow_schema(schema).to_dict()


@pytest.mark.parametrize("dtype", [pa.map_(pa.string(), pa.int64()), pa.month_day_nano_interval(), pa.uuid()])
def test_a_column_whose_type_has_no_name_at_hugging_face_is_to_be_dropped(dtype: pa.DataType) -> None:
    with pytest.raises(ConfigError, match=r"column 'odd' has type .*: --drop odd"):
        hub_features(pa.schema([("odd", pa.list_(dtype))]))


def test_an_image_folder_is_opened_by_datasets(run_to_export: RunOutput, tmp_path: Path) -> None:
    export(run_to_export, tmp_path / "folder", "imagefolder")
    loaded = load_dataset("imagefolder", data_dir=str(tmp_path / "folder"), cache=tmp_path / "cache")["train"]
    got = {row["id"]: row for row in loaded}
    for row in run_to_export.rows():
        assert pixels(got[row["id"]]["image"]) == expected_pixels(run_to_export, row)
        assert got[row["id"]]["words"] == (row["text"] if row["output"] is None else row["prompt"])


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


def test_edits_are_exported_with_their_sources_by_split(
    tmp_path: Path, tiny_checkpoint: Path, loaded_once: None
) -> None:
    image = encoded(picture(1, (64, 64)))
    schema = pq.ParquetFile(write_manifest(tmp_path / "s.parquet", [])).schema_arrow.append(pa.field("split", "string"))
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
