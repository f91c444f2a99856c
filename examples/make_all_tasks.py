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

from jobs.task_list import TaskEntry, task_entries
from shapes.pipeline_run import png
from shapes.task import sample

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

PROMPTS = {
    "text_to_image": ("a red star on a night background", "three blue circles"),
    "edit_add": ("Add a red star.", "Add a blue circle."),
    "edit_remove": ("Remove the star.", "Remove the circle."),
    "edit_replace": ("Replace the star by a heart.", "Make the circle green."),
    "edit_background": ("Change the background to night.", "Change the background to sky."),
    "vqa": ("How many shapes are there?", "Is there a red star?"),
}
"""Words of both rows of a task; others have ``OTHER_WORDS``."""

OTHER_WORDS = ("a red star and a blue circle", "two green hearts on a paper background")
TURNS = (["Add a red star.", "Change the background to night."], ["Remove the circle.", "Add a blue heart."])
MASKS: tuple[dict[str, Any], dict[str, Any]] = ({"mask_box": [16, 16, 48, 48]}, {"mask_ratio": [0.5, 0.5]})
GROWTH: tuple[dict[str, Any], dict[str, Any]] = ({"mask_ratio": [0.5, 0.5]}, {"pad_px": [16, 0, 16, 0]})


def rows() -> list[dict[str, Any]]:
    """Every row, in the order of the tasks; then those about several images."""
    return [*(_row(entry, number) for entry in task_entries() for number in (0, 1)), *_about_several()]


def _about_several() -> list[dict[str, Any]]:
    pictures = [_picture(number) for number in (0, 1)]
    question = {"task": "vqa", "prompt": "Do the images show the same objects?"}
    return [
        {"id": "vqa-several", "seed": 0, "images": pictures} | question,
        {"id": "caption-several", "seed": 1, "images": pictures, "task": "caption", "caption_detail": "short"},
    ]


def _row(entry: TaskEntry, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {"id": f"{entry.name}-{number + 1}", "task": entry.name, "seed": number}
    if "prompt" in entry.required:
        row["prompt"] = PROMPTS.get(entry.name, OTHER_WORDS)[number]
    if "image" in entry.example:
        row["image"] = _picture(number)
    if "style_image" in entry.required:
        row["style_image"] = _picture(number + 2)
    if "prompts" in entry.required:
        row["prompts"] = TURNS[number]
    if "caption_detail" in entry.optional:
        row["caption_detail"] = ("short", "detailed")[number]
    if "mask_box" in entry.one_of:
        row |= (GROWTH if "pad_px" in entry.one_of else MASKS)[number]
    if "vq_codes" in entry.required:
        rows, columns = (2, 3) if number else (4, 4)
        row |= {"vq_codes": [(37 * place) % 128 for place in range(rows * columns)], "vq_grid": [rows, columns]}
    if "width" in entry.optional:
        row |= {"width": 64, "height": 64}
    return row


def _picture(seed: int) -> bytes:
    return png(sample("captioning", seed, "test").inputs[0])


def main(target: Path) -> None:
    """Write the manifest."""
    made = rows()
    if unknown := {name for row in made for name in row} - set(SCHEMA.names):
        raise SystemExit(f"rows have columns that SCHEMA lacks: {', '.join(sorted(unknown))}")
    pq.write_table(pa.Table.from_pylist(made, schema=SCHEMA), target, compression="zstd")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("all-tasks.parquet"))
