"""The figures of ``docs/quality.md``, written from what was measured.

``python -m shapes.quality_page [--scores FILE] [--best-of FILE] [--kept FILE]``

Each FILE is what ``shapes.evaluate``, ``shapes.best_of_evaluation`` or ``shapes.kept_evaluation`` wrote with ``--json``
and takes the place of that part of ``benchmarks/results/task-quality.json``; then the tables of the page, between its
markers, are written anew from there.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapes import best_of_evaluation
from shapes.score import Score, table, wilson_interval

_ROOT = Path(__file__).parent.parent
PAGE = _ROOT / "docs" / "quality.md"
RESULTS = _ROOT / "benchmarks" / "results" / "task-quality.json"
_PARTS = ("scores", "best_of", "kept")

_YES_OR_NO = ("existence", "relation", "same", "match")


@dataclass(frozen=True, slots=True)
class Goal:
    """What should be reached, in percent of right outputs, by which of the world's tasks and kinds."""

    name: str
    wanted: int
    task: str
    kinds: tuple[str, ...] = ()  # none: all


GOALS = (
    Goal("edits", 90, "editing"),
    Goal("inpainting, the whole image", 95, "inpainting"),
    Goal("outpainting, the whole image", 95, "outpainting"),
    Goal("control: edge map to image", 90, "control", ("edges",)),
    Goal("control: segmentation to image", 90, "control", ("segments",)),
    Goal("prediction: image to edge map", 90, "dense_prediction", ("edges",)),
    Goal("prediction: image to segmentation", 90, "dense_prediction", ("segments",)),
    Goal("captions", 95, "captioning"),
    Goal("questions: yes or no", 95, "questions", _YES_OR_NO),
    Goal("questions: counting", 95, "questions", ("count",)),
)


def page(text: str, results: Mapping[str, Any]) -> str:
    """The page with its tables written from the results.

    Raises:
        ValueError: The page lacks a marker.
    """
    tables: Mapping[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
        "goals": _goals,
        "best of": _best_of,
        "categories": _categories,
        "held out": _held_out,
        "measured": _measured,
    }
    for name, write in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"the page must have one {begin.strip()} and one {end}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{chr(10).join(write(results))}\n\n{end}{rest.partition(end)[2]}"
    return text


def _scores(results: Mapping[str, Any]) -> list[Score]:
    return [Score.from_json(each) for each in results["scores"]["scores"]]


def _goals(results: Mapping[str, Any]) -> Iterable[str]:
    seen = [score for score in _scores(results) if score.held_out is None]
    yield "| what | wanted | right | % | 95% interval | reached |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for goal in GOALS:
        parts = [each for each in seen if each.task == goal.task and (not goal.kinds or each.kind in goal.kinds)]
        yield _goal_line(goal.name, goal.wanted, sum(each.right for each in parts), sum(each.total for each in parts))
    kept = results["kept"]
    yield _goal_line("painting: every kept pixel is the input's", 100, kept["right"], kept["total"])


def _goal_line(name: str, wanted: int, right: int, total: int) -> str:
    if not total:
        return f"| {name} | {wanted} | not measured | | | |"
    low, high = wilson_interval(right, total)
    reached = "yes" if 100 * right >= wanted * total else "no"
    return (
        f"| {name} | {wanted} | {right:,} of {total:,} | {100 * right / total:.1f} "
        f"| {100 * low:.1f} to {100 * high:.1f} | {reached} |"
    )


def _best_of(results: Mapping[str, Any]) -> Iterable[str]:
    found = results["best_of"]
    if found["settings"]:
        yield f"With `{'` and `'.join(found['settings'])}`:"
        yield ""
    yield from best_of_evaluation.lines(found)
    whole, number = found["all"], found["best_of"]
    gain, low, high = (100 * value for value in whole["gain_over_any"])
    told = "is better than" if low > 0 else "is worse than" if high < 0 else "cannot be told from"
    ranked = whole["right_above_wrong"]
    yield ""
    yield f"The best of {number} {told} one image drawn by lot from the {number}: {gain:+.1f} points, 95% interval"
    yield f"{low:+.1f} to {high:+.1f}, over {whole['rows']:,} rows."
    if ranked is not None:
        yield f"In {100 * ranked:.1f}% of the pairs of a right and a wrong image of a row the right one has the higher"
        yield "score."


def _categories(results: Mapping[str, Any]) -> Iterable[str]:
    yield table(score for score in _scores(results) if score.held_out is None)


def _held_out(results: Mapping[str, Any]) -> Iterable[str]:
    held_out = [score for score in _scores(results) if score.held_out is not None]
    yield table(held_out) if held_out else "Not measured."


def _measured(results: Mapping[str, Any]) -> Iterable[str]:
    scores = results["scores"]
    image, digests = scores["image"], {results[part]["model_digest"] for part in _PARTS}
    yield (
        f"Weights `{scores['weights_sha256'][:16]}`, {scores['split']} split, {scores['per_group']} examples of "
        f"each kind, {image['num_steps']} steps, guidance "
        f"{image['cfg_scale']:g}, temperature {image['temperature']:g}, {scores['dtype']}."
    )
    if len(digests) > 1:
        yield "**The parts of this page were measured on different checkpoints.**"


def collected(before: Mapping[str, Any], given: Mapping[str, Path | None]) -> dict[str, Any]:
    """The results with the given parts put in; of scores without the list of wrong outputs.

    Raises:
        ValueError: A part is neither given nor there before.
    """
    results = dict(before)
    for part, path in given.items():
        if path is not None:
            results[part] = json.loads(path.read_text(encoding="utf-8"))
            results[part].pop("wrong", None)
    if missing := [part for part in _PARTS if part not in results]:
        raise ValueError(f"{missing[0]} has not been measured: give --{missing[0].replace('_', '-')} FILE")
    return results


def main(given: Sequence[str] | None = None) -> None:
    """Put the parts in and write the page."""
    parser = argparse.ArgumentParser(prog="python -m shapes.quality_page", description=__doc__.partition("\n")[0])
    for part in _PARTS:
        parser.add_argument(f"--{part.replace('_', '-')}", type=Path, metavar="FILE")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(given)
    before = json.loads(args.results.read_text(encoding="utf-8")) if args.results.exists() else {}
    results = collected(before, {part: getattr(args, part) for part in _PARTS})
    args.results.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    args.page.write_text(page(args.page.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
