"""Manifests for tests: rows of every task, pictures to look at, files to keep them in."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("prompt", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("steps", pa.int32()),
        ("cfg_scale", pa.float64()),
        ("temperature", pa.float64()),
        ("seed", pa.int64()),
        ("max_tokens", pa.int32()),
        ("block_length", pa.int32()),
        ("note", pa.string()),
    ]
)
"""Every known column, and ``note``, which passes through."""

FAST_SETTINGS: dict[str, Any] = {
    "text_to_image": {"width": 32, "height": 32, "steps": 2, "cfg_scale": 0.0},
    "understanding": {"max_tokens": 8, "block_length": 8, "steps": 2, "resolution": 32},
}
"""Sections of a spec with which the tiny model runs a row in a few milliseconds."""


def picture(seed: int = 0, size: tuple[int, int] = (72, 48)) -> Image.Image:
    """An RGB picture of smooth colours, different for each seed."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def image_row(row_id: str, **columns: Any) -> dict[str, Any]:
    """A row that makes an image."""
    return {"id": row_id, "task": "text_to_image", "prompt": f"a red bicycle, number {row_id}"} | columns


def text_row(row_id: str, image: bytes | str, **columns: Any) -> dict[str, Any]:
    """A row that answers a question about an image, given as bytes or as a URI."""
    is_embedded = isinstance(image, bytes)
    cell = {"bytes": image if is_embedded else None, "path": None if is_embedded else image}
    return {"id": row_id, "task": "vqa", "prompt": "What is in the picture?", "image": cell} | columns


def write_manifest(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema = SCHEMA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return path


def mixed_rows() -> list[dict[str, Any]]:
    """Images of five sizes and answers to embedded and named images, no two rows with the same settings.

    Two rows name files that ``write_photos`` makes.
    """
    return [
        image_row("small", width=32, height=32, steps=4, cfg_scale=2.0, temperature=1.0),
        text_row("png", encoded(picture(1)), max_tokens=16, block_length=8, steps=4),
        image_row("wide", width=64, height=32, steps=6, cfg_scale=0.0, temperature=0.7),
        image_row("tall", width=32, height=80, steps=3, cfg_scale=4.0, temperature=1.3, note="tall"),
        text_row("named", "photos/a.png", task="caption", prompt=None, max_tokens=8, temperature=0.8),
        image_row("square", width=64, height=64, steps=5, cfg_scale=4.0, temperature=0.0, seed=7),
        text_row("jpeg", encoded(picture(2, (40, 90)), "JPEG"), max_tokens=24, block_length=12, cfg_scale=1.5),
        image_row("thin", width=16, height=64, steps=8, cfg_scale=1.0, temperature=1.0),
        text_row("other", "photos/b.webp", task="caption", max_tokens=16, block_length=4, steps=8, temperature=0.5),
    ]


def write_photos(folder: Path) -> None:
    """The files that ``mixed_rows`` names, below the manifest's folder."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    (folder / "photos" / "a.png").write_bytes(encoded(picture(3)))
    (folder / "photos" / "b.webp").write_bytes(encoded(picture(4, (64, 64)), "WEBP", lossless=True))
