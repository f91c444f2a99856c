"""Build ``all-tasks.parquet``: rows of every task in the embedded model's world of coloured shapes.

    python -m examples.make_all_tasks [TARGET]

Run it with ``dimoo-batch run examples/all-tasks.parquet --spec examples/all-tasks.yaml``. The embedded model was not
trained on every task; what it draws for the others shows that they run, not that it can do them.
"""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dimoo_core.settings import PIXELS_PER_TOKEN
from jobs.tools.catalog import TaskEntry, task_entries
from manifests.tasks import OUTPAINT
from shapes.captioning_task import detailed_caption, short_caption
from shapes.pipeline_run import png
from shapes.task import sample
from shapes.tile import scene_codes
from shapes.world import Scene

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "task": pa.string(),
        "prompt": pa.string(),
        "prompts": pa.list_(pa.string()),
        "image": pa.binary(),
        "images": pa.list_(pa.binary()),
        "caption_detail": pa.string(),
        "style_image": pa.binary(),
        "mask_box": pa.list_(pa.int32()),
        "mask_ratio": pa.list_(pa.float64()),
        "pad_px": pa.list_(pa.int32()),
        "vq_codes": pa.list_(pa.uint16()),
        "vq_grid": pa.list_(pa.uint16()),
        "width": pa.int32(),
        "height": pa.int32(),
        "seed": pa.int64(),
    }
)

WORLD = {
    "text_to_image": ("text_to_image", ("binding", "cells")),
    "edit": ("editing", ("recolour", "move")),
    "edit_add": ("editing", ("add", "add")),
    "edit_remove": ("editing", ("remove", "remove")),
    "edit_replace": ("editing", ("reshape", "reshape")),
    "edit_background": ("editing", ("background", "background")),
    "canny_control": ("control", ("edges", "edges")),
    "hed_control": ("control", ("edges", "edges")),
    "depth_control": ("control", ("segments", "segments")),
    "openpose_control": ("control", ("segments", "segments")),
    "subject_driven": ("subject", ("alone", "with others")),
    "style_transfer": ("style_transfer", ("style", "style")),
    "vqa": ("questions", ("count", "colour")),
}
"""The task of the world, and the kinds of both rows, whose examples a task has; others are about ``_scene``."""

TURNS = (
    ["Change the background to night.", "Add a blue heart at a1."],
    ["Add a green star at a1.", "Remove the star."],
)
MASKS: tuple[dict[str, Any], dict[str, Any]] = ({"mask_box": [16, 16, 48, 48]}, {"mask_ratio": [0.5, 0.5]})
GROWTH: tuple[dict[str, Any], dict[str, Any]] = ({"mask_ratio": [0.5, 0.5]}, {"pad_px": [16, 0, 16, 0]})


def rows() -> list[dict[str, Any]]:
    """Every row, in the order of the tasks; then those about several images."""
    return [*(_row(entry, number) for entry in task_entries() for number in (0, 1)), *_about_several()]


def _about_several() -> list[dict[str, Any]]:
    asked = sample("questions", 0, "test", kind="more")
    images = [png(codes) for codes in asked.inputs]
    return [
        {"id": "vqa-several", "task": "vqa", "seed": 0, "images": images, "prompt": asked.prompt},
        {"id": "caption-several", "task": "caption", "seed": 1, "images": images, "caption_detail": "short"},
    ]


def _row(entry: TaskEntry, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {"id": f"{entry.name}-{number + 1}", "task": entry.name, "seed": number}
    row |= _of_world(entry, number) if entry.name in WORLD else _of_scene(entry, number)
    if "prompts" in entry.required:
        row["prompts"] = TURNS[number]
    if "caption_detail" in entry.optional:
        row["caption_detail"] = ("short", "detailed")[number]
    if "vq_codes" in entry.required:
        codes = scene_codes(_scene(number))
        row |= {"vq_codes": codes.flatten().tolist(), "vq_grid": list(codes.shape)}
    return row


def _of_world(entry: TaskEntry, number: int) -> dict[str, Any]:
    """Prompt and images of an example of the world."""
    task, kinds = WORLD[entry.name]
    example = sample(task, number, "test", kind=kinds[number])
    names = [name for name in ("image", "style_image") if name in entry.example]
    row: dict[str, Any] = {name: png(codes) for name, codes in zip(names, example.inputs, strict=True)}
    if "prompt" in entry.required:
        row["prompt"] = example.prompt
    if not example.inputs and example.target_codes is not None:
        rows, columns = example.target_codes.shape
        row |= {"width": columns * PIXELS_PER_TOKEN, "height": rows * PIXELS_PER_TOKEN}
    return row


def _of_scene(entry: TaskEntry, number: int) -> dict[str, Any]:
    """A scene and what it shows; the second row of a score says what another one shows."""
    scene = _scene(number)
    codes = scene_codes(scene)
    row: dict[str, Any] = {}
    if entry.name == OUTPAINT:
        row |= GROWTH[number]
        codes = codes[:, 1:-1] if "pad_px" in row else codes
    elif "mask_box" in entry.one_of:
        row |= MASKS[number]
    if "prompt" in entry.required:
        told = detailed_caption(scene) if entry.one_of else short_caption(_scene(2 * number))
        row["prompt"] = told
    if "image" in entry.example:
        row["image"] = png(codes)
    return row


def _scene(seed: int) -> Scene:
    return sample("captioning", seed, "test", kind="short").scenes[0]


def main(target: Path) -> None:
    """Write the manifest."""
    made = rows()
    if unknown := {name for row in made for name in row} - set(SCHEMA.names):
        raise SystemExit(f"rows have columns that SCHEMA lacks: {', '.join(sorted(unknown))}")
    pq.write_table(pa.Table.from_pylist(made, schema=SCHEMA), target, compression="zstd")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("all-tasks.parquet"))
