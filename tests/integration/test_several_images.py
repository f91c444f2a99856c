"""Rows that ask about several images: their order, what an image may be, and what is wrong with them."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dimoo_core.checkpoint.load import Model
from dimoo_core.codec.resize import centered, crop_sizes_for, fit
from dimoo_core.engine.engine import Engine
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import Request, TextResult
from dimoo_core.settings import TextSettings
from jobs.cli import app
from manifests.errors import ManifestRowError
from manifests.row.images import MAX_IMAGES
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from pipeline.images import inputs as input_images
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import SCHEMA, encoded, picture, write_manifest, write_photos
from tests.support.run_output import RunOutput

SEVERAL_SCHEMA = pa.schema(
    [*SCHEMA, ("images", pa.list_(SCHEMA.field("image").type)), ("choices", pa.list_(pa.string()))]
)


def embedded(seed: int, size: tuple[int, int] = (72, 48)) -> dict[str, Any]:
    return {"bytes": encoded(picture(seed, size)), "path": None}


def row(row_id: str, images: list[dict[str, Any]], task: str = "vqa", **columns: Any) -> dict[str, Any]:
    prompt = "Which image is brighter?" if task == "vqa" else None
    return {"id": row_id, "task": task, "prompt": prompt, "images": images, "seed": 0} | columns


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    load_models_once(monkeypatch)


def run_rows(rows: list[dict[str, Any]], folder: Path, model: Path) -> RunOutput:
    manifest = write_manifest(folder / "m.parquet", rows, SEVERAL_SCHEMA)
    run_here(manifest, folder / "out", model)
    return RunOutput(folder / "out")


def test_several_images_are_laid_out_in_their_order_before_the_end_of_the_question(
    tmp_path: Path, tiny_checkpoint: Path, tiny_model: Model
) -> None:
    first, second = embedded(1), embedded(2, (40, 90))
    rows = [
        row("ordered", [first, second]),
        row("turned", [second, first]),
        row("one of one", [first]),
        {"id": "alone", "task": "vqa", "prompt": "Which image is brighter?", "image": first, "seed": 0},
        row("about both", [first, second], "caption"),
        row("chosen", [first, second], choices=["the first", "the second"], max_tokens=16),
    ]
    output = run_rows(rows, tmp_path, tiny_checkpoint)
    assert output.failures() == []
    texts = {row["id"]: row["text"] for row in output.rows()}
    assert texts["one of one"] == texts["alone"]
    assert texts["chosen"] in ("the first", "the second")
    crops = [
        fit(picture(seed, size), crop_sizes_for(size, 32), centered) for seed, size in ((1, (72, 48)), (2, (40, 90)))
    ]
    codes = [tiny_model.codec.encode([crop])[0] for crop in crops]
    settings = TextSettings(max_tokens=8, block_length=8, num_steps=2)
    for name, images in {"ordered": codes, "turned": codes[::-1]}.items():
        noise = SeededNoise(0, torch.device("cpu"))
        request = tiny_model.layout.understanding(name, "Which image is brighter?", images, settings, noise)
        assert answered(tiny_model, request) == texts[name]
    assert texts["ordered"] != texts["turned"]


def answered(model: Model, request: Request) -> str:
    engine = Engine(model.transformer, model.tokens)
    engine.submit(request)
    while not (results := engine.step()):
        pass
    (result,) = results
    assert isinstance(result, TextResult)
    return model.layout.answer_text(result.token_ids)


def test_one_wrong_image_of_several_is_named_by_its_place(tmp_path: Path, tiny_checkpoint: Path) -> None:
    write_photos(tmp_path)
    good = {"bytes": None, "path": "photos/a.png"}
    rows = [
        row("files", [good, {"bytes": None, "path": "photos/b.webp"}]),
        row("gone", [good, {"bytes": None, "path": "photos/gone.png"}]),
        row("no image", [good, embedded(0), {"bytes": b"<html>404", "path": None}]),
    ]
    output = run_rows(rows, tmp_path, tiny_checkpoint)
    assert [row["id"] for row in output.rows()] == ["files"]
    failures = {name: failure["message"] for name, failure in output.failed_by_id().items()}
    assert failures["gone"].startswith(f"cannot read images[1] {tmp_path}/photos/gone.png: ")
    assert failures["no image"].startswith("embedded images[2] is not an image (9 bytes")


def test_images_that_have_no_place_beside_each_other_are_counted_out(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_images, "MAX_POSITIONS", 20)
    missing = {"bytes": None, "path": "photos/never-read.png"}
    output = run_rows([row("many", [embedded(0), embedded(1), embedded(2), missing])], tmp_path, tiny_checkpoint)
    (failure,) = output.failures()
    assert (failure["stage"], failure["message"]) == (
        "prompt",
        "images[2] is too many: a sequence must have at most 20 tokens, the first 3 of 4 images have 24: give fewer "
        "images, or a smaller understanding.resolution",
    )


def test_uris_of_several_images_reach_the_output(tmp_path: Path, tiny_checkpoint: Path) -> None:
    write_photos(tmp_path)
    uris = ["photos/a.png", "photos/b.webp"]
    schema = pa.schema([*SCHEMA, ("images", pa.list_(pa.string()))])
    manifest = write_manifest(tmp_path / "m.parquet", [{"task": "caption", "images": uris}], schema)
    run_here(manifest, tmp_path / "out", tiny_checkpoint)
    (done,) = RunOutput(tmp_path / "out").rows()
    assert done["images"] == uris


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"images": []}, "images must be a list of images, got []: give [image, ...]"),
        ({"images": "a.png"}, "images must be a list of images, got 'a.png'"),
        ({"images": ["a.png", None]}, "images[1] is null: leave it out"),
        ({"images": ["a.png", ""]}, "images[1] must not be empty, got ''"),
        ({"images": [b"x", b""]}, "images[1] must not be empty, got 0 bytes"),
        ({"images": ["a.png", 3]}, "images[1] must be a URI or the bytes of an image file, got 3"),
        ({"images": ["a.png"] * (MAX_IMAGES + 1)}, "images must be at most 64 images, got 65: split the row"),
        ({"image": "a.png", "images": ["b.png"]}, "image and images are given, a.png and 1 in images: leave one null"),
        ({}, "image is null, task 'caption' needs one: give a URI or bytes, or several in images"),
        ({"task": "score", "prompt": "a", "image": "a.png", "images": ["b.png"]}, "images is not used by task 'score'"),
    ],
)
def test_a_list_of_images_that_is_wrong_is_told_with_column_value_and_fix(record: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestRowError) as caught:
        parse_row({"task": "caption"} | record, 0, RowDefaults())
    assert message in str(caught.value)


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


@pytest.mark.filterwarnings("ignore")
def test_several_images_are_exported_beside_the_answer_about_them(tmp_path: Path, tiny_checkpoint: Path) -> None:
    import datasets
    import webdataset

    given = [embedded(1), embedded(2, (40, 90))]
    output = run_rows([row("both", given), row("one", given[:1], "caption")], tmp_path, tiny_checkpoint)
    for kind in ("hf-parquet", "webdataset", "files"):
        words = ["export", output.store.uri, str(tmp_path / kind), "--to", kind, "--sources"]
        ended = CliRunner().invoke(app, words)
        assert ended.exit_code == 0, ended.output
    expected = [[pixels(image["bytes"]) for image in images] for images in (given, given[:1])]
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(str(tmp_path / "hf-parquet"), cache_dir=str(tmp_path / "cache"), split="train")
    assert [[image.convert("RGB").tobytes() for image in each["source_images"]] for each in loaded] == expected
    samples = list(webdataset.WebDataset(str(tmp_path / "webdataset/train-00000.tar"), shardshuffle=False))
    numbers = [[f"source-{number}.png" for number in range(len(images))] for images in expected]
    archived = [[pixels(sample[name]) for name in names] for sample, names in zip(samples, numbers, strict=True)]
    assert archived == expected
    lines = [json.loads(line) for line in (tmp_path / "files/metadata.jsonl").read_text().splitlines()]
    written = [
        [pixels((tmp_path / "files" / name).read_bytes()) for name in line["source_images_file_names"]]
        for line in lines
    ]
    assert written == expected
