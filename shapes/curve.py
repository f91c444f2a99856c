"""Picture of the transformer's losses over one or several runs: ``python -m shapes.curve LOG... --out PNG``.

Each LOG is that of a course of ``python -m shapes.train model``; a later one began with the weights of the one before.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shapes.training_log import draw_lines

_TASKS = ("captioning", "questions", "text_to_image", "subject", "editing", "inpainting")
_SMOOTHED = 5  # reports in one point


def lines_of(logs: Sequence[Path]) -> dict[str, list[tuple[float, float]]]:
    """For each task its mean losses over the minutes of all runs, one after the other.

    Raises:
        ValueError: A log has fewer reports than make a point.
    """
    lines: dict[str, list[tuple[float, float]]] = {task: [] for task in _TASKS}
    before = 0.0
    for log in logs:
        reports = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        if len(reports) < _SMOOTHED:
            raise ValueError(f"{log} has {len(reports)} reports, at least {_SMOOTHED} are needed")
        for task, line in lines.items():
            line += ((before + minutes, loss) for minutes, loss in _points(reports, task))
        before += reports[-1]["minutes"]
    return lines


def _points(reports: Sequence[dict[str, Any]], task: str) -> Iterator[tuple[float, float]]:
    for start in range(0, len(reports) - _SMOOTHED + 1, _SMOOTHED):
        group = reports[start : start + _SMOOTHED]
        losses = [report[task] for report in group if task in report]
        if losses:
            yield group[-1]["minutes"], sum(losses) / len(losses)


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(prog="python -m shapes.curve", description=__doc__)
    parser.add_argument("logs", type=Path, nargs="+", metavar="LOG")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    arguments = parser.parse_args()
    draw_lines(lines_of(arguments.logs), x_label="minutes", y_label="loss").save(arguments.out)


if __name__ == "__main__":
    main()
