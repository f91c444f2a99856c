"""Whether the best of several images, chosen by the model itself, is more often right than one.

``python -m shapes.best_of_evaluation [--model DIR] [--best-of 4] [--per-kind 100] [--set KEY=VALUE] [--json FILE]``

Every row goes through a whole run with ``best_of`` and keeps all its images, each with the model's score. The first of
them is what the row gives without ``best_of``; which are right is read by the verifier. Differences are taken row by
row, so that hard prompts weigh on both sides alike.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from dimoo_core.checkpoint.locate import BUILTIN, digest, find_checkpoint
from shapes.example import Example
from shapes.judge import judge
from shapes.pipeline_run import SCHEMA, manifest_row, read_image, run_rows
from shapes.score import mean_interval
from shapes.split import SPLITS
from shapes.task import sample

KINDS = ("colours", "counting", "position", "binding", "cells")
"""Kinds of prompts of which the model learns to say whether an image is what they ask for."""

_BEST_OF_SCHEMA = pa.schema([*SCHEMA, ("best_of", pa.int32()), ("keep_images", pa.string())])
_COMMANDS = ("draw ", "an image ")


@dataclass(frozen=True, slots=True)
class Chosen:
    """One row: whether each of its images is right, the model's score of each, and which one it chose."""

    kind: str
    is_right: tuple[bool, ...]
    scores: tuple[float, ...]
    chosen: int

    @property
    def gain_over_first(self) -> float:
        """1 if choosing made a wrong row right, -1 if it made a right one wrong, else 0."""
        return float(self.is_right[self.chosen]) - float(self.is_right[0])

    @property
    def gain_over_any(self) -> float:
        """The same against an image drawn by lot."""
        return float(self.is_right[self.chosen]) - sum(self.is_right) / len(self.is_right)


def asked_examples(per_kind: int, split: str) -> list[Example]:
    """So many examples of each kind, of those whose prompt goes on from "Does the image show"."""
    found = []
    for kind in KINDS:
        seed, wanted = 0, len(found) + per_kind
        while len(found) < wanted:
            example = sample("text_to_image", seed, split, kind=kind)  # type: ignore[arg-type]
            seed += 1
            if example.prompt[0].islower() and not example.prompt.startswith(_COMMANDS):
                found.append(example)
    return found


def choose(
    examples: Sequence[Example], best_of: int, *, model: str, workers: int, overrides: Sequence[str] = ()
) -> list[Chosen]:
    """Run the examples and judge every image; ``overrides`` are those of ``dimoo-batch run --set``."""
    rows = [
        manifest_row(example, f"example-{seed}", seed) | {"best_of": best_of, "keep_images": "all"}
        for seed, example in enumerate(examples)
    ]
    read = partial(_judged, examples)
    return run_rows(rows, read, model=model, overrides=overrides, workers=workers, schema=_BEST_OF_SCHEMA)


def _judged(examples: Sequence[Example], row: dict[str, Any], folder: Path) -> Chosen:
    example, images = examples[row["row"]], row["outputs"]
    return Chosen(
        example.kind,
        tuple(judge(example, read_image(folder / image["output"])).is_right for image in images),
        tuple(image["score"] for image in images),
        [image["output"] for image in images].index(row["output"]),
    )


def summary(rows: Sequence[Chosen]) -> dict[str, Any]:
    """Shares of right rows, and the differences with their 95% intervals."""
    best_of = len(rows[0].is_right)
    return {
        "rows": len(rows),
        "first": sum(row.is_right[0] for row in rows) / len(rows),
        "any": sum(sum(row.is_right) for row in rows) / (best_of * len(rows)),
        "chosen": sum(row.is_right[row.chosen] for row in rows) / len(rows),
        "one_or_more": sum(any(row.is_right) for row in rows) / len(rows),
        "gain_over_first": mean_interval([row.gain_over_first for row in rows]),
        "gain_over_any": mean_interval([row.gain_over_any for row in rows]),
        "right_above_wrong": _right_above_wrong(rows),
    }


def _right_above_wrong(rows: Sequence[Chosen]) -> float | None:
    """How often a right image has a higher score than a wrong one of its row; equal ones count half. None: no pair."""
    wins, pairs = 0.0, 0
    for row in rows:
        scored = list(zip(row.is_right, row.scores, strict=True))
        for right in (score for is_right, score in scored if is_right):
            for wrong in (score for is_right, score in scored if not is_right):
                wins += 1.0 if right > wrong else 0.5 if math.isclose(right, wrong, rel_tol=1e-12) else 0.0
                pairs += 1
    return wins / pairs if pairs else None


def report(rows: Sequence[Chosen], model: str, split: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The whole measurement in JSON's types."""
    checkpoint = find_checkpoint(model)
    return {
        "model_digest": digest(checkpoint.directory),
        "split": split,
        "settings": list(overrides),
        "best_of": len(rows[0].is_right),
        "all": summary(rows),
        "kinds": {kind: summary([row for row in rows if row.kind == kind]) for kind in KINDS},
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The measurement as a table in Markdown."""
    table = [
        "| prompts | rows | one image | best | one or more right | gain, points |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in (*found["kinds"].items(), ("all", found["all"])):
        gain, low, high = (100 * value for value in each["gain_over_first"])
        shares = " | ".join(f"{100 * each[key]:.1f}%" for key in ("first", "chosen", "one_or_more"))
        table.append(f"| {name} | {each['rows']:,} | {shares} | {gain:+.1f} ({low:+.1f} to {high:+.1f}) |")
    return table


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the numbers."""
    parser = argparse.ArgumentParser(prog="python -m shapes.best_of_evaluation", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=BUILTIN, help="builtin, or the directory of a checkpoint of this world")
    parser.add_argument("--best-of", type=int, default=4)
    parser.add_argument("--per-kind", type=int, default=100, help="rows of each kind of prompt")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of dimoo-batch run")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args(given)
    examples = asked_examples(args.per_kind, args.split)
    rows = choose(examples, args.best_of, model=args.model, workers=args.workers, overrides=args.set)
    found = report(rows, args.model, args.split, args.set)
    print(*lines(found), sep="\n")
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
