"""The result file of an acceptance run: outcomes as JSON, and what of them must not be."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.acceptance.difference import Difference
from benchmarks.acceptance.inputs import SequenceCheck
from benchmarks.acceptance.outcome import Comparison
from benchmarks.acceptance.row import Row
from benchmarks.acceptance.run import Outcomes


def outcomes_as_json(outcomes: Outcomes) -> dict[str, Any]:
    """The parts of the result that grow turn by turn."""
    return {
        "comparisons": [_comparison(one) for one in outcomes.comparisons],
        "presets": [asdict(one) for one in outcomes.presets],
        "turns": [asdict(one) for one in outcomes.costs],
        "runs": [asdict(one) for one in outcomes.runs],
        "left_out": [asdict(one) for one in outcomes.left_out],
    }


def sequences_as_json(rows: Sequence[Row], checks: Sequence[SequenceCheck]) -> list[dict[str, Any]]:
    """Checks of rows, in their order."""
    return [{"row": row.name, "task": row.task, **asdict(check)} for row, check in zip(rows, checks, strict=True)]


def failures(result: dict[str, Any]) -> list[str]:
    """What must not be, each in a line; nothing if the checkpoint is accepted."""
    found = [
        f"{one['row']}: the reference lays its sequence out in another way"
        for one in result["sequences"] or ()
        if not one["is_equal"]
    ]
    for one in result["comparisons"]:
        if one["must_be_equal"] and one["verdict"] == "differs":
            parted, tokens = one["difference"], one["tokens"]
            where = f" from step {parted['step'] + 1} on" if parted else ""
            counts = f"{tokens['num_equal']} of {tokens['num_tokens']} tokens are equal"
            found.append(f"{one['row']}: differs in {one['dtype']}{where}, {counts}")
    return found


def _comparison(one: Comparison) -> dict[str, Any]:
    return {
        **asdict(one),
        "tokens": {**asdict(one.tokens), "share": one.tokens.share},
        "difference": _difference(one.difference),
        "verdict": one.verdict,
        "must_be_equal": one.must_be_equal,
    }


def _difference(one: Difference | None) -> dict[str, Any] | None:
    """JSON has no infinity: None stands for a margin that is none."""
    if one is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in asdict(one).items()}
