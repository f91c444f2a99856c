"""Images to codes and codes to images, from a manifest to files: no row goes through the transformer."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from dimoo_core.checkpoint.load import Model
from dimoo_core.codec.resize import centered, crop_sizes_for, fit
from manifests.errors import ManifestRowError
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from pipeline.output.parts import PARTS_PREFIX
from pipeline.worker import output as row_delivery
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import SCHEMA, encoded, picture, write_manifest

CODES_SCHEMA = pa.schema([*SCHEMA, ("vq_codes", pa.list_(pa.uint16())), ("vq_grid", pa.list_(pa.uint16()))])
SIZES = [(48, 48), (120, 60), (33, 80), (64, 64)]


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    load_models_once(monkeypatch)


def rows_to_tokenize() -> list[dict[str, Any]]:
    return [
        {
            "id": f"image-{number}",
            "task": "tokenize",
            "prompt": f"caption {number}" if number % 2 else None,
            "image": {"bytes": encoded(picture(number, SIZES[number % len(SIZES)])), "path": None},
        }
        for number in range(9)
    ]


def run(rows: list[dict[str, Any]], folder: Path, model: Path, **spec: Any) -> dict[str, dict[str, Any]]:
    manifest = write_manifest(folder / "m.parquet", rows, CODES_SCHEMA)
    summary = run_here(manifest, folder / "out", model, tokenize={"resolution": 64}, **spec)
    assert (summary.done, summary.failed, summary.tokens) == (len(rows), 0, 0)
    return {row["id"]: row for row in ds.dataset(folder / "out" / PARTS_PREFIX).to_table().to_pylist()}


def test_codes_are_those_of_the_codec_and_their_captions_stay_beside_them(
    tmp_path: Path, tiny_checkpoint: Path, tiny_model: Model
) -> None:
    done = run(rows_to_tokenize(), tmp_path, tiny_checkpoint)
    for number in range(9):
        image = picture(number, SIZES[number % len(SIZES)])
        (codes_HW,) = tiny_model.codec.encode([fit(image, crop_sizes_for(image.size, 64), centered)])
        row = done[f"image-{number}"]
        assert row["vq_codes"] == codes_HW.flatten().tolist()
        assert row["vq_grid"] == list(codes_HW.shape)
        assert (row["height"], row["width"]) == tuple(16 * side for side in codes_HW.shape)
        assert row["prompt"] == (f"caption {number}" if number % 2 else "")
        assert (row["output"], row["text"], row["steps"]) == (None, None, 0)
    stored = ds.dataset(tmp_path / "out" / PARTS_PREFIX).schema
    assert stored.field("vq_codes").type == pa.list_(pa.uint16())


def test_codes_depend_on_neither_order_nor_batch(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = rows_to_tokenize()
    forth = run(rows, tmp_path / "forth", tiny_checkpoint)
    back = run(rows[::-1], tmp_path / "back", tiny_checkpoint, pipeline={"max_rows_in_flight": 2, "fetch_threads": 1})
    assert {name: row["vq_codes"] for name, row in forth.items()} == {
        name: row["vq_codes"] for name, row in back.items()
    }


def test_what_tokenize_wrote_detokenize_makes_an_image_of(
    tmp_path: Path, tiny_checkpoint: Path, tiny_model: Model
) -> None:
    tokenized = run(rows_to_tokenize(), tmp_path / "there", tiny_checkpoint)
    codes = ds.dataset(tmp_path / "there" / "out" / PARTS_PREFIX).to_table(["id", "vq_codes", "vq_grid"])
    manifest = tmp_path / "codes.parquet"
    pq.write_table(codes, manifest)
    summary = run_here(manifest, tmp_path / "back", tiny_checkpoint, task="detokenize")
    assert (summary.done, summary.failed, summary.tokens) == (9, 0, 0)
    for row in ds.dataset(tmp_path / "back" / PARTS_PREFIX).to_table().to_pylist():
        before = tokenized[row["id"]]
        grid = np.array(before["vq_codes"]).reshape(before["vq_grid"])
        (wanted,) = tiny_model.codec.decode([torch.from_numpy(grid)])
        with Image.open(tmp_path / "back" / row["output"]) as image:
            assert image.tobytes() == wanted.tobytes()
        assert (row["vq_codes"], row["width"], row["height"]) == (None, before["width"], before["height"])


def test_images_go_through_the_codec_together(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The codec gets what waits, up to a limit, and no image twice."""
    counts: list[int] = []
    through_codec = row_delivery.Postprocessor.through_codec

    def counted(postprocessor: Any, results: Any) -> Any:
        counts.append(len(results))
        return through_codec(postprocessor, results)

    monkeypatch.setattr(row_delivery.Postprocessor, "through_codec", counted)
    monkeypatch.setattr(row_delivery, "_MAX_CODEC_ROWS", 4)
    run(rows_to_tokenize(), tmp_path, tiny_checkpoint)
    assert sum(counts) == 9
    assert max(counts) <= 4
    assert len(counts) == 9, "a turn for each image; those that find nothing leave"


def test_codes_beyond_the_codebook_are_a_failure_of_their_row(tmp_path: Path, tiny_checkpoint: Path) -> None:
    row = {"id": "a", "task": "detokenize", "vq_codes": [0, 8192], "vq_grid": [1, 2]}
    manifest = write_manifest(tmp_path / "m.parquet", [row], CODES_SCHEMA)
    assert run_here(manifest, tmp_path / "out", tiny_checkpoint).failed == 1
    (failure,) = ds.dataset(tmp_path / "out" / "_failures").to_table().to_pylist()
    assert failure["message"] == (
        "vq_codes must be from 0 to 8191 for this model, got 8192: tokenize the images with this model"
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"vq_codes": None}, "vq_codes is null, task 'detokenize' needs it: give what task 'tokenize' wrote there"),
        ({"vq_grid": None}, "vq_grid is null, task 'detokenize' needs it: give what task 'tokenize' wrote there"),
        ({"vq_codes": 5}, "vq_codes must be a list of whole numbers, got 5"),
        (
            {"vq_codes": [1]},
            "vq_codes must fill the vq_grid [1, 2], got 1 codes: give one code for each of its 2 cells",
        ),
        ({"vq_codes": [1, -1]}, "vq_codes must be from 0 to 65535, got -1 at place 1"),
        ({"vq_codes": [1, None]}, "vq_codes must be from 0 to 65535, got None at place 1"),
        ({"vq_codes": [1, 0.5]}, "vq_codes must be one whole number or null, got 0.5"),
        ({"vq_grid": [2]}, "vq_grid must be a list of 2 numbers, got [2]: give [rows, columns]"),
        (
            {"vq_grid": [0, 2]},
            "vq_grid must be two whole numbers from 1 to 128, got [0, 2]: give [rows, columns]",
        ),
        ({"image": b"x"}, "image is not used by task 'detokenize', got 'embedded image': leave it null"),
        ({"steps": 4}, "steps is not used by task 'detokenize', got 4: leave it null"),
    ],
)
def test_wrong_codes_are_told_with_column_value_and_fix(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestRowError) as caught:
        parse_row({"task": "detokenize", "vq_codes": [1, 2], "vq_grid": [1, 2]} | columns, 0, RowDefaults())
    assert str(caught.value) == message
