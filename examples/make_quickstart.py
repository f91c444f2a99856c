"""Build ``quickstart.parquet``: prompts, edits, captions and questions of the embedded model's world, one row broken.

    python -m examples.make_quickstart [TARGET]

The pictures are drawn by ``shapes``, in scenes that the model was not trained on; ``wanted`` is what a right text says.
"""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shapes.pipeline_run import SCHEMA, manifest_row, png
from shapes.task import sample

DRAWN = (
    ("a red star on a night background", 64, 64),
    ("two blue circles", 64, 64),
    ("a yellow heart and a purple square, sky background", 64, 64),
    ("Draw a green triangle left of an orange circle.", 64, 64),
    ("An image of a blue star at a2 and a yellow square at c4.", 48, 80),
    ("two orange hearts on a night background", 64, 64),
    ("a purple circle above a yellow triangle on a sky background", 48, 80),
    ("A paper background with a red circle at d1 and a blue square at a4.", 64, 64),
)
"""Prompts with the width and the height of their images in pixels."""

CHANGED = (
    ("editing", "recolour", 8),
    ("editing", "background", 2),
    ("editing", "add", 4),
    ("style_transfer", "style", 1),
    ("inpainting", "rectangle", 4),
    ("dense_prediction", "edges", 2),
)
READ = (
    ("captioning", "short", 3),
    ("captioning", "detailed", 8),
    ("questions", "existence", 5),
    ("questions", "count", 2),
    ("questions", "colour", 3),
    ("questions", "background", 5),
)
"""Task, kind and seed of the examples that start from an image."""


_VERBS = {"captioning": "describe", "questions": "ask"}


def rows() -> list[dict[str, Any]]:
    """All rows, the broken one last."""
    drawn: list[dict[str, Any]] = [
        {"id": f"draw-{number:02}", "task": "text_to_image", "prompt": prompt, "width": width, "height": height}
        for number, (prompt, width, height) in enumerate(DRAWN, 1)
    ]
    given = []
    for number, (task, kind, seed) in enumerate((*CHANGED, *READ), 1):
        example = sample(task, seed, "test", kind=kind)
        row_id = f"{_VERBS.get(task, 'change')}-{number:02}"
        given.append(manifest_row(example, row_id, seed) | {"wanted": example.answer})
    picture = png(sample("captioning", 0, "test").inputs[0])
    broken = {"id": "broken-on-purpose", "task": "caption", "image": picture[: len(picture) // 3]}
    return [*drawn, *given, broken]


def main(target: Path) -> None:
    """Write the manifest."""
    schema = SCHEMA.append(pa.field("wanted", pa.string()))  # no column of ours: it passes through to the output
    pq.write_table(pa.Table.from_pylist(rows(), schema=schema), target, compression="none")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("quickstart.parquet"))
