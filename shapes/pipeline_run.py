"""Examples through a whole run: a Parquet manifest in, parts and images out, as ``dimoo-batch run`` does it."""

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from PIL import Image

from dimoo_core.settings import PIXELS_PER_TOKEN
from jobs.run.run import run_job
from jobs.spec.spec import load_spec
from shapes.example import Example
from shapes.generation import Output
from shapes.tile import Codes, render_codes, scene_codes
from shapes.world import Scene

T = TypeVar("T")

MANIFEST_TASKS = {
    "text_to_image": "text_to_image",
    "captioning": "caption",
    "questions": "vqa",
    "editing": "edit",
    "subject": "subject_driven",
    "style_transfer": "style_transfer",
    "inpainting": "inpaint",
    "outpainting": "inpaint",
}
"""The task of a manifest row for each task of the world that has one, whatever the kind; see ``manifest_task``."""

_TASKS_OF_KINDS = {
    ("dense_prediction", "edges"): "canny_pred",
    ("dense_prediction", "segments"): "seg_pred",
    ("control", "edges"): "canny_control",
}

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("prompt", pa.string()),
        ("image", pa.binary()),
        ("style_image", pa.binary()),
        ("mask_image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("seed", pa.int64()),
    ]
)


def manifest_task(example: Example) -> str | None:
    """The task of a manifest row that asks for this example; None if there is none."""
    return MANIFEST_TASKS.get(example.task) or _TASKS_OF_KINDS.get((example.task, example.kind))


def can_ask(example: Example) -> bool:
    """Whether a manifest row can ask for this example."""
    task = manifest_task(example)
    return task is not None and (task == "style_transfer" or len(example.inputs) <= 1)


def manifest_row(example: Example, row_id: str, seed: int) -> dict[str, Any]:
    """The row that asks for an example.

    Raises:
        ValueError: If no row can.
    """
    if not can_ask(example):
        raise ValueError(f"no manifest row can ask for {example.task}, {example.kind}")
    row: dict[str, Any] = {"id": row_id, "task": manifest_task(example), "prompt": example.prompt, "seed": seed}
    if example.inputs:
        row["image"] = png(example.inputs[0])
    if row["task"] == "style_transfer":
        row["style_image"] = png(example.inputs[1])
    if example.target_codes is not None and example.mask is not None:
        bare = scene_codes(Scene.of(example.scenes[0].board, example.scenes[0].style, {}))
        row["image"] = png(np.where(example.mask == 1, bare, example.target_codes))
        row["mask_image"] = _mask_png(example.mask)
    elif example.target_codes is not None and not example.inputs:
        rows, columns = example.target_codes.shape
        row |= {"width": columns * PIXELS_PER_TOKEN, "height": rows * PIXELS_PER_TOKEN}
    return row


def _mask_png(mask: Codes) -> bytes:
    """White where the image is to be painted."""
    tile = np.ones((PIXELS_PER_TOKEN, PIXELS_PER_TOKEN), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.kron(mask.astype(np.uint8) * 255, tile)).save(buffer, format="PNG")
    return buffer.getvalue()


def png(codes: Codes) -> bytes:
    """The file of a board's image."""
    buffer = io.BytesIO()
    Image.fromarray(render_codes(codes)).save(buffer, format="PNG")
    return buffer.getvalue()


def run_examples(
    examples: Sequence[Example], seeds: Sequence[int], *, model: str, overrides: Sequence[str], workers: int
) -> list[Output]:
    """One output for each example, in their order, of one run in a folder of its own.

    Raises:
        ValueError: If a row failed; examples are right by construction.
    """
    rows = [
        manifest_row(example, f"example-{index}", seed)
        for index, (example, seed) in enumerate(zip(examples, seeds, strict=True))
    ]
    return run_rows(rows, _output, model=model, overrides=overrides, workers=workers)


def run_rows(
    rows: Sequence[Mapping[str, Any]],
    read: Callable[[dict[str, Any], Path], T],
    *,
    model: str,
    overrides: Sequence[str],
    workers: int,
    schema: pa.Schema = SCHEMA,
) -> list[T]:
    """What ``read`` makes of each finished row and the folder of its run, in the order of the rows.

    Raises:
        ValueError: If a row failed.
    """
    with tempfile.TemporaryDirectory(prefix="shapes-") as folder:
        manifest, output = Path(folder, "examples.parquet"), Path(folder, "output")
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), manifest)
        flags = {"manifest": str(manifest), "output": str(output), "model": model, "workers": workers}
        summary = run_job(load_spec(None, flags, overrides))
        if summary.failed:
            raise ValueError(f"{summary.failed} of {summary.rows} rows failed")
        done = ds.dataset(output / "parts").to_table().sort_by("row").to_pylist()
        return [read(row, output) for row in done]


def _output(row: dict[str, Any], folder: Path) -> Output:
    if row["output"] is None:
        return Output(text=row["text"])
    return Output(image=read_image(folder / row["output"]))


def read_image(path: Path) -> Image.Image:
    """An image of a run."""
    with Image.open(path) as image:
        return image.convert("RGB")
