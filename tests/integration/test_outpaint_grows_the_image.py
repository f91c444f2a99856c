"""Outpainting beyond the image: a larger canvas on the token grid, the input kept pixel by pixel."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from PIL import Image

from manifests.errors import ManifestRowError
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from pipeline.output.parts import PARTS_PREFIX
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import SCHEMA, encoded, picture, write_manifest

PAD_SCHEMA = pa.schema(
    [
        *SCHEMA,
        ("pad_px", pa.list_(pa.int32())),
        ("pad_ratio", pa.list_(pa.float64())),
        ("mask_dilation", pa.int32()),
    ]
)
FAST = {"text_to_image": {"steps": 2, "cfg_scale": 1.0}}


def row(row_id: str, size: tuple[int, int] = (48, 32), **columns: Any) -> dict[str, Any]:
    image = {"bytes": encoded(picture(6, size)), "path": None}
    return {"id": row_id, "task": "outpaint", "prompt": "a red hat", "image": image} | columns


ROWS: list[tuple[dict[str, Any], tuple[int, int, int, int]]] = [
    (row("one side", pad_px=[0, 0, 32, 0]), (0, 0, 2, 0)),
    (row("every side", pad_px=[16, 32, 48, 16]), (1, 2, 3, 1)),
    (row("rounded up", pad_px=[1, 0, 17, 0]), (1, 0, 2, 0)),
    (row("shares", pad_ratio=[0.0, 0.5, 1 / 3, 0.0]), (0, 1, 1, 0)),
    (row("a rest", (55, 34), pad_px=[16, 0, 0, 16]), (1, 0, 0, 1)),
    (row("guided", pad_ratio=[1.0, 1.0, 1.0, 1.0], cfg_scale=3.0, steps=4), (3, 2, 3, 2)),
]
"""Rows, and the tokens that they add at left, top, right and bottom."""


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    load_models_once(monkeypatch)


def run(rows: list[dict[str, Any]], folder: Path, model: Path, in_flight: int = 64) -> dict[str, np.ndarray[Any, Any]]:
    manifest = write_manifest(folder / "m.parquet", rows, PAD_SCHEMA)
    run_here(manifest, folder / "out", model, pipeline={"max_rows_in_flight": in_flight}, **FAST)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for done in ds.dataset(folder / "out" / PARTS_PREFIX).to_table().to_pylist():
        with Image.open(folder / "out" / done["output"]) as image:
            assert image.size == (done["width"], done["height"])
            found[done["id"]] = np.asarray(image.convert("RGB"))
    return found


def test_the_image_lies_in_the_larger_one_pixel_by_pixel_and_all_around_is_painted(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    results = run([each for each, _ in ROWS], tmp_path, tiny_checkpoint)
    for each, (left, top, right, bottom) in ROWS:
        original = Image.open(io.BytesIO(each["image"]["bytes"])).convert("RGB")
        x, y = (original.width - 48) // 2, (original.height - 32) // 2
        kept = np.asarray(original.crop((x, y, x + 48, y + 32)))
        result = results[each["id"]]
        assert result.shape == (16 * (top + 2 + bottom), 16 * (left + 3 + right), 3)
        assert np.array_equal(result[16 * top : 16 * top + 32, 16 * left : 16 * left + 48], kept)
        painted = np.ones(result.shape[:2], dtype=bool)
        painted[16 * top : 16 * top + 32, 16 * left : 16 * left + 48] = False
        assert result[painted].max() > 0, "the new part is no longer the empty canvas"


def test_dilation_regenerates_the_rim_of_the_image(tmp_path: Path, tiny_checkpoint: Path) -> None:
    each = row("rim", (64, 64), pad_px=[16, 16, 16, 16], mask_dilation=1)
    result = run([each], tmp_path, tiny_checkpoint)["rim"]
    original = np.asarray(Image.open(io.BytesIO(each["image"]["bytes"])).convert("RGB"))
    inner = result[16:80, 16:80]
    assert np.array_equal(inner[16:48, 16:48], original[16:48, 16:48])
    assert (inner != original).any(axis=2).reshape(4, 16, 4, 16).any(axis=(1, 3)).sum() == 12


def test_a_growing_row_depends_on_neither_order_nor_batch(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = [each for each, _ in ROWS]
    together = run(rows, tmp_path / "together", tiny_checkpoint)
    few = run(rows[::-1], tmp_path / "few", tiny_checkpoint, in_flight=2)
    assert all(np.array_equal(together[name], few[name]) for name in together)


def test_an_image_that_would_grow_too_large_is_told(tmp_path: Path, tiny_checkpoint: Path) -> None:
    manifest = write_manifest(tmp_path / "m.parquet", [row("large", pad_px=[0, 0, 2048, 0])], PAD_SCHEMA)
    assert run_here(manifest, tmp_path / "out", tiny_checkpoint).failed == 1
    (failure,) = ds.dataset(tmp_path / "out" / "_failures").to_table().to_pylist()
    assert failure["message"] == (
        "pad_px makes of the 48x32 pixels 2096x32, a side must have at most 2048: make it smaller"
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {},
            "mask_image, mask_box, mask_ratio, pad_px and pad_ratio are null, task 'outpaint' needs one of them",
        ),
        (
            {"pad_px": [0, 0, 0, 0]},
            "pad_px must be pixels from 0 to 2048 that are not all 0, got [0, 0, 0, 0]: give [left, top",
        ),
        ({"pad_px": [0, -1, 0, 16]}, "pad_px must be pixels from 0 to 2048"),
        ({"pad_ratio": [0, 0, 129, 0]}, "pad_ratio must be shares from 0 to 128"),
        ({"pad_px": [16, 16]}, "pad_px must be a list of 4 numbers, got [16, 16]"),
        ({"pad_px": 16}, "pad_px must be a list of 4 numbers, got 16"),
        ({"pad_px": [1, 1, 1, 1], "pad_ratio": [1, 1, 1, 1]}, "pad_px and pad_ratio are given, a row has one mask"),
        ({"pad_px": [1, 1, 1, 1], "mask_ratio": [1, 1]}, "mask_ratio and pad_px are given, a row has one mask"),
        (
            {"task": "inpaint", "mask_ratio": [1, 1], "pad_px": [1, 1, 1, 1]},
            "pad_px is not used by task 'inpaint', got [1, 1, 1, 1]: leave it null",
        ),
    ],
)
def test_wrong_padding_is_refused_with_column_value_and_fix(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestRowError) as caught:
        parse_row({"task": "outpaint", "image": b"x", "prompt": "a hat"} | columns, 0, RowDefaults())
    assert str(caught.value).startswith(message)
