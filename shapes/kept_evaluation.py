"""Whether painting leaves alone what it must not touch, pixel by pixel.

``python -m shapes.kept_evaluation [--model DIR] [--per-kind 100] [--json FILE]``

Rows of ``inpaint`` go through a whole run; outside of the mask every pixel of the result is held against the input's.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dimoo_core.checkpoint.locate import BUILTIN, digest, find_checkpoint
from shapes.evaluation import categories
from shapes.example import Example
from shapes.pipeline_run import manifest_row, read_image, run_rows
from shapes.score import wilson_interval
from shapes.split import SPLITS
from shapes.tile import render_codes

_TASKS = ("inpainting", "outpainting")
_TILE_PX = 16


def is_kept(examples: Sequence[Example], row: dict[str, Any], folder: Path) -> bool:
    """Whether all pixels outside of the mask are those of the input image."""
    example = examples[row["row"]]
    assert example.target_codes is not None
    assert example.mask is not None
    kept = np.kron(example.mask == 0, np.ones((_TILE_PX, _TILE_PX), dtype=bool))
    result, given = np.asarray(read_image(folder / row["output"])), render_codes(example.target_codes)
    return bool((result[kept] == given[kept]).all())


def measure(per_kind: int, *, model: str, split: str, workers: int) -> dict[str, Any]:
    """Run the examples and count; in JSON's types."""
    found = categories(_TASKS, split, per_kind)  # type: ignore[arg-type]
    examples = [example for category in found for example in category.examples]
    rows = [manifest_row(example, f"example-{seed}", seed) for seed, example in enumerate(examples)]
    kept = run_rows(rows, partial(is_kept, examples), model=model, overrides=(), workers=workers)
    return {
        "model_digest": digest(find_checkpoint(model).directory),
        "split": split,
        "right": sum(kept),
        "total": len(kept),
        "interval": wilson_interval(sum(kept), len(kept)),
    }


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print a line, write the numbers."""
    parser = argparse.ArgumentParser(prog="python -m shapes.kept_evaluation", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=BUILTIN, help="builtin, or the directory of a checkpoint of this world")
    parser.add_argument("--per-kind", type=int, default=100, help="rows of each kind of each task")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args(given)
    found = measure(args.per_kind, model=args.model, split=args.split, workers=args.workers)
    print(f"every kept pixel is the input's in {found['right']:,} of {found['total']:,} images")
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
