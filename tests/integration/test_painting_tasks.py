"""Inpainting and outpainting, from a manifest to files."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from PIL import Image

from pipeline.output.parts import PARTS_PREFIX
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import SCHEMA, encoded, picture, write_manifest

PAINTING_SCHEMA = pa.schema(
    [
        *SCHEMA,
        ("mask_image", pa.binary()),
        ("mask_box", pa.list_(pa.int32())),
        ("mask_ratio", pa.list_(pa.float64())),
        ("mask_dilation", pa.int32()),
    ]
)
FAST = {"text_to_image": {"steps": 2, "cfg_scale": 1.0}}
SIZE = (64, 48)


def mask_of(size: tuple[int, int], box: tuple[int, int, int, int], mode: str = "L") -> bytes:
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return encoded(mask.convert(mode))


def row(row_id: str, size: tuple[int, int] = SIZE, **columns: Any) -> dict[str, Any]:
    image = {"bytes": encoded(picture(5, size)), "path": None}
    return {"id": row_id, "task": "inpaint", "prompt": "a red hat", "image": image} | columns


def tokens(*painted: tuple[int, int], of: tuple[int, int] = (3, 4)) -> np.ndarray[Any, Any]:
    """Rows and columns of tokens that are painted, as a mask of tokens."""
    grid = np.zeros(of, dtype=bool)
    for place in painted:
        grid[place] = True
    return grid


INNER = tokens((1, 1), (1, 2))
ROWS: list[tuple[dict[str, Any], np.ndarray[Any, Any]]] = [
    (row("box", mask_box=[16, 16, 48, 32]), INNER),
    (row("image", mask_image=mask_of(SIZE, (16, 16, 48, 32))), INNER),
    (row("bits", mask_image=mask_of(SIZE, (16, 16, 48, 32), "1")), INNER),
    (row("more than half", mask_box=[16, 16, 41, 32]), INNER),
    (row("ratio", mask_ratio=[0.5, 1.0]), tokens(*((y, x) for y in range(3) for x in (1, 2)))),
    (row("grown", mask_box=[0, 0, 16, 16], mask_dilation=1), tokens((0, 0), (0, 1), (1, 0), (1, 1))),
    (row("all around", task="outpaint", mask_box=[16, 16, 48, 32]), ~INNER),
    (row("around the middle", task="outpaint", mask_ratio=[0.5, 1 / 3]), ~INNER),
    (row("shown", task="outpaint", mask_image=mask_of(SIZE, (16, 16, 48, 32))), INNER),
    (row("a rest", (71, 50), mask_box=[19, 17, 51, 33]), INNER),
    (
        row("guided", mask_box=[0, 0, 64, 32], cfg_scale=3.0, steps=4),
        tokens(*((y, x) for y in (0, 1) for x in range(4))),
    ),
]
"""Rows, and the tokens that they want painted."""


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    load_models_once(monkeypatch)


def run_rows(
    rows: list[dict[str, Any]], folder: Path, model: Path, in_flight: int = 64
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Rows that are done by id, and messages of failures by id."""
    manifest = write_manifest(folder / "m.parquet", rows, PAINTING_SCHEMA)
    run_here(manifest, folder / "out", model, pipeline={"max_rows_in_flight": in_flight}, **FAST)
    done = ds.dataset(folder / "out" / PARTS_PREFIX).to_table().to_pylist()
    failures = ds.dataset(folder / "out" / "_failures").to_table().to_pylist() if len(done) < len(rows) else []
    return {each["id"]: each for each in done}, {each["id"]: each["message"] for each in failures}


def test_what_the_mask_leaves_out_stays_pixel_by_pixel_and_the_rest_is_painted(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    done, failures = run_rows([each for each, _ in ROWS], tmp_path, tiny_checkpoint)
    assert failures == {}
    for each, painted in ROWS:
        original = Image.open(io.BytesIO(each["image"]["bytes"])).convert("RGB")
        left, upper = (original.width - 64) // 2, (original.height - 48) // 2
        before = np.asarray(original.crop((left, upper, left + 64, upper + 48)))
        with Image.open(tmp_path / "out" / done[each["id"]]["output"]) as image:
            after = np.asarray(image.convert("RGB"))
        assert after.shape == before.shape
        differs = (after != before).any(axis=2).reshape(3, 16, 4, 16).any(axis=(1, 3))
        assert np.array_equal(differs, painted), each["id"]


def test_a_painting_depends_on_neither_order_nor_batch(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = [each for each, _ in ROWS]
    together, _ = run_rows(rows, tmp_path / "together", tiny_checkpoint)
    few, _ = run_rows(rows[::-1], tmp_path / "few", tiny_checkpoint, in_flight=2)
    digests = [{name: each["sha256"] for name, each in done.items()} for done in (together, few)]
    assert digests[0] == digests[1]
    assert len(digests[0]) == len(rows)


BAD: list[tuple[dict[str, Any], str]] = [
    (
        row("size", mask_image=mask_of((48, 48), (0, 0, 32, 32))),
        "embedded mask_image must be of the image's 64x48 pixels, got 48x48: resize it",
    ),
    (
        row("mode", mask_image=mask_of(SIZE, (0, 0, 32, 32), "RGB")),
        "embedded mask_image must be black and white or gray (mode 1 or L), got mode RGB: convert it",
    ),
    (
        row("empty", mask_image=mask_of(SIZE, (0, 0, 0, 0)), mask_dilation=2),
        "mask_image leaves nothing to paint of the 64x48 pixels: of a token of 16x16 pixels more than half must be "
        "painted, so widen what it paints",
    ),
    (row("thin", mask_box=[0, 0, 64, 8]), "mask_box leaves nothing to paint"),
    (row("all kept", task="outpaint", mask_ratio=[1.0, 1.0]), "mask_ratio leaves nothing to paint"),
    (row("beyond", mask_box=[0, 0, 65, 48]), "mask_box must lie within the image of 64x48 pixels, got [0, 0, 65, 48]"),
    (row("no image", mask_image=b"<html>"), "embedded mask_image is not an image (6 bytes"),
    (row("none"), "mask_image, mask_box and mask_ratio are null, task 'inpaint' needs one of them: give one"),
]


def test_a_mask_that_does_not_fit_is_told_with_column_value_and_fix(tmp_path: Path, tiny_checkpoint: Path) -> None:
    done, failures = run_rows(
        [row("good", mask_ratio=[0.5, 0.5]), *(each for each, _ in BAD)], tmp_path, tiny_checkpoint
    )
    assert list(done) == ["good"]
    for each, words in BAD:
        assert failures[each["id"]].startswith(words)
