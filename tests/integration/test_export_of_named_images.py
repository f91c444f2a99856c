"""Exports of rows that name their images: the picture stands under the name of a picture, the URI under its own."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from tests.support.exported import export, load_dataset, pixels
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, picture, write_manifest
from tests.support.run_output import RunOutput

GIVEN = {"file_name": "F3.JPG", "scan_file_name": "scan.tif", "words": "a few", "source_image": "of old"}
"""Columns of a user's own, named like what exports make."""


@pytest.fixture(scope="module", autouse=True)
def _one_model() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        load_models_once(patch)
        yield


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def run_rows(folder: Path, model: Path, **columns: str) -> RunOutput:
    """Two rows of one task about two photos that the manifest names, with the columns of ``GIVEN``."""
    (folder / "photos").mkdir(parents=True)
    rows = []
    for number in range(2):
        (folder / f"photos/F{number}.JPG").write_bytes(encoded(picture(number, (64, 64)), "JPEG"))
        rows.append({"id": str(number), "image": f"photos/F{number}.JPG", **GIVEN, **columns})
    schema = pa.schema([(name, pa.string()) for name in rows[0]])
    run_here(write_manifest(folder / "m.parquet", rows, schema), folder / "out", model,
             image_to_image={"resolution": 32, "steps": 2})  # fmt: skip
    return RunOutput(folder / "out")


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> RunOutput:
    return run_rows(tmp_path_factory.mktemp("captions"), tiny_checkpoint, task="caption")


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> RunOutput:
    return run_rows(tmp_path_factory.mktemp("edits"), tiny_checkpoint, task="edit", prompt="Make it red.")


def photo(run: RunOutput, number: int) -> bytes:
    return Path(run.store.uri, f"../photos/F{number}.JPG").read_bytes()


def decoded(data: bytes) -> bytes:
    return pixels(Image.open(io.BytesIO(data)))


def results(run: RunOutput) -> list[bytes]:
    """Pixels of the images that the run made."""
    return [decoded(run.store.get(row["output"])) for row in run.rows()]


def image_columns(loaded: Any) -> set[str]:
    import datasets

    return {name for name, feature in loaded.features.items() if isinstance(feature, datasets.Image)}


def loaded_split(kind: str, folder: Path, cache: Path) -> Any:
    if kind == "imagefolder":
        return load_dataset("imagefolder", data_dir=str(folder), cache=cache)["train"]
    return load_dataset(str(folder), cache=cache)["train"]


def check_given(kind: str, loaded: Any) -> None:
    """What the manifest had under names that the export has of its own is there under others."""
    taken = set(GIVEN) if kind == "imagefolder" else {"source_image"}
    given = {f"{name}_given" if name in taken else name: value for name, value in GIVEN.items()}
    assert [row["image_uri"] for row in loaded] == ["photos/F0.JPG", "photos/F1.JPG"]
    assert all(row[name] == value for row in loaded for name, value in given.items())


@pytest.mark.parametrize("kind", ["imagefolder", "hf-parquet"])
def test_images_that_rows_name_are_images_in_datasets(kind: str, captions: RunOutput, tmp_path: Path) -> None:
    export(captions, tmp_path / "x", kind)
    loaded = loaded_split(kind, tmp_path / "x", tmp_path / "c")
    assert image_columns(loaded) == {"image"}
    assert [pixels(row["image"]) for row in loaded] == [decoded(photo(captions, n)) for n in range(2)]
    check_given(kind, loaded)


@pytest.mark.parametrize("kind", ["imagefolder", "hf-parquet"])
@pytest.mark.parametrize("options", [(), ("--sources",)])
def test_results_of_edits_are_images_beside_their_sources(
    kind: str, options: tuple[str, ...], edits: RunOutput, tmp_path: Path
) -> None:
    export(edits, tmp_path / "x", kind, *options)
    loaded = loaded_split(kind, tmp_path / "x", tmp_path / "c")
    assert image_columns(loaded) == {"image", *(["source_image"] if options else [])}
    assert [pixels(row["image"]) for row in loaded] == results(edits)
    if options:
        assert [pixels(row["source_image"]) for row in loaded] == [decoded(photo(edits, n)) for n in range(2)]
    check_given(kind, loaded)


def test_structs_that_name_files_are_kept_in_datasets_beside_the_image(tiny_checkpoint: Path, tmp_path: Path) -> None:
    shots = [{"file_name": f"F{number}.JPG", "scans": [{"scan_file_name": "s.tif"}]} for number in range(2)]
    image = encoded(picture(0, (64, 64)))
    rows = [{"id": str(n), "task": "caption", "image": image, "shot": shot} for n, shot in enumerate(shots)]
    manifest = tmp_path / "m.parquet"
    pq.write_table(pa.Table.from_pylist(rows), manifest)
    run_here(manifest, tmp_path / "out", tiny_checkpoint)
    export(RunOutput(tmp_path / "out"), tmp_path / "x", "imagefolder")
    loaded = loaded_split("imagefolder", tmp_path / "x", tmp_path / "c")
    assert image_columns(loaded) == {"image"}
    assert [row["shot"] for row in loaded] == [
        {"file_name_given": shot["file_name"], "scans": [{"scan_file_name_given": "s.tif"}]} for shot in shots
    ]


def test_lance_has_the_result_the_source_and_the_uri(edits: RunOutput, tmp_path: Path) -> None:
    import lance

    export(edits, tmp_path / "x", "lance", "--sources")
    rows = lance.dataset(str(tmp_path / "x/data.lance")).to_table().to_pylist()
    assert [decoded(row["image"]) for row in rows] == results(edits)
    assert [row["source_image"] for row in rows] == [photo(edits, n) for n in range(2)]
    assert [row["image_uri"] for row in rows] == ["photos/F0.JPG", "photos/F1.JPG"]
    assert {row["source_image_given"] for row in rows} == {GIVEN["source_image"]}


def test_plain_files_list_the_uri_beside_the_files(edits: RunOutput, tmp_path: Path) -> None:
    export(edits, tmp_path / "x", "files", "--sources")
    lines = [json.loads(line) for line in (tmp_path / "x/metadata.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        assert line["file_name"] == f"images/{number:010d}.png"
        assert (tmp_path / "x" / line["source_image_file_name"]).read_bytes() == photo(edits, number)
        assert (line["image_uri"], line["file_name_given"]) == (f"photos/F{number}.JPG", GIVEN["file_name"])


@pytest.mark.parametrize("options", [(), ("--sources",)])
def test_an_archive_of_named_images_becomes_a_manifest_with_the_same_pictures(
    options: tuple[str, ...], edits: RunOutput, tmp_path: Path
) -> None:
    export(edits, tmp_path / "x", "webdataset", *options)
    with tarfile.open(tmp_path / "x/train-00000.tar") as archive:
        member = archive.extractfile("0000000000.json")
        assert member is not None
        assert "image" not in json.load(member)
    command = ["manifest", "build", str(tmp_path / "x"), "--to", str(tmp_path / "again.parquet"), "--check-images"]
    for name in ("width", "height"):
        command += ["--rename", f"{name}=made_{name}"]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 0, ended.output
    again = pq.read_table(tmp_path / "again.parquet").to_pylist()
    assert [decoded(row["image"]["bytes"]) for row in again] == results(edits)
    assert [row["image_uri"] for row in again] == ["photos/F0.JPG", "photos/F1.JPG"]
