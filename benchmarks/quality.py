"""Quality against cost on the embedded model: presets and cache settings against simply taking fewer steps.

``python -m benchmarks.quality [--model builtin] [--image-tasks text_to_image] [--image-examples 36] [--cfg N]
[--steps N] [--temperatures 3,1] [--text-tasks captioning,questions] [--text-examples 14] [--threads 2] [--out FILE]
[--plot FILE]``

Each way gets the same examples of the test split with the same noise. An image is right if the verifier reads exactly
what was asked for from its pixels; a text if it means the right thing. Cost is arithmetic, counted as it happens. By
default images are made at a temperature at which steps matter, and at the checkpoint's own.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.contender import Contender, image_contenders, steps_name, text_contenders, title_of
from benchmarks.flop_meter import FlopMeter
from benchmarks.quality_plot import save_plot
from benchmarks.quality_point import Judgement, Point, judge_points
from benchmarks.result_file import environment, write_result
from dimoo_core.checkpoint.load import Model, load_model
from dimoo_core.checkpoint.locate import BUILTIN, digest, find_checkpoint
from dimoo_core.settings import ImageSettings, TextSettings
from jobs.spec.resolve import with_generation_defaults
from jobs.spec.spec import load_spec
from shapes.evaluation import Category, planned
from shapes.example import Example
from shapes.generation import ExampleGenerator, Output
from shapes.judge import judge

_ROW = "  {:<10}{:<24}{:>9}{:>8}{:>9}{:>16}{:>12}  {}"
_HEADER = ("", "", "MFLOP", "cost", "right %", "fewer steps %", "gain", "verdict")
_RESULTS = Path(__file__).parent / "results"
_PLOT = Path(__file__).parent.parent / "docs" / "images" / "quality.png"


def base_settings(directory: Path, cfg_scale: float | None) -> tuple[ImageSettings, TextSettings]:
    """What a run of this checkpoint would have, without approximations."""
    overrides = [] if cfg_scale is None else [f"text_to_image.cfg_scale={cfg_scale}"]
    spec = with_generation_defaults(load_spec(None, {"manifest": "-"}, overrides), directory)
    defaults = spec.row_defaults()
    return defaults.text_to_image, defaults.understanding


class QualityBenchmark:
    """One model and the examples that every way of using it is given."""

    def __init__(self, model: Model, image: ImageSettings, text: TextSettings) -> None:
        self._model = model
        self._base = {"image": image, "text": text}

    def measure(self, contender: Contender, plan: Sequence[Category]) -> Point:
        """Run every example under the contender's settings and judge what comes out."""
        model, is_image = self._model, contender.unit == "image"
        settings = self._base | {contender.unit: contender.settings}
        columns = model.tokens.image_columns if is_image else model.tokens.vocabulary_columns
        meter = FlopMeter(model.config, columns.stop - columns.start)
        examples = [example for category in plan for example in category.examples]
        seeds = [seed for category in plan for seed in category.seeds]
        generator = ExampleGenerator(model, image=settings["image"], text=settings["text"])  # type: ignore[arg-type]
        with meter.watching(model.transformer):
            outputs = generator.generate(examples, seeds)
        return Point(
            contender=contender,
            right=tuple(_is_right(example, output) for example, output in zip(examples, outputs, strict=True)),
            flops=meter.flops.total / len(examples),
            tokens=meter.num_tokens / len(examples),
        )


def _is_right(example: Example, output: Output) -> bool:
    if output.text is not None:
        return judge(example, output.text).is_right
    assert output.image is not None
    return judge(example, output.image, output.codes).is_right


def table(title: str, points: Sequence[Point], judgements: Sequence[Judgement], usual: str) -> str:
    """All points of one kind of work for people; costs as shares of the usual number of steps."""
    whole = next(point for point in points if point.contender.name == usual).flops
    of_point = {id(judgement.point): judgement for judgement in judgements}
    lines = [f"{title}: {len(points[0].right)} examples", _ROW.format(*_HEADER)]
    for point in points:
        judgement = of_point.get(id(point))
        is_compared = judgement is not None and judgement.curve_accuracy is not None
        lines.append(
            _ROW.format(
                point.contender.kind,
                point.contender.name,
                f"{point.flops / 1e6:,.0f}",
                f"{point.flops / whole:.3f}",
                f"{100 * point.accuracy:.1f}",
                f"{100 * judgement.curve_accuracy:.1f}" if is_compared else "-",  # type: ignore[union-attr,operator]
                f"{100 * judgement.gain:+.1f} ±{100 * judgement.margin:.1f}" if is_compared else "-",  # type: ignore[union-attr,operator]
                judgement.verdict if judgement is not None else "",
            ).rstrip()
        )
    return "\n".join(lines)


def verdict_lines(judgements: Sequence[Judgement]) -> list[str]:
    """A plain word about each preset."""
    words = {
        "above": "is better than fewer steps at its cost",
        "below": "is NOT better than fewer steps at its cost: take fewer steps instead",
        "not told apart": "cannot be told from fewer steps at its cost with these examples",
        "beyond the curve": "costs less than any number of steps that was tried",
    }
    return [
        f"preset {each.point.contender.name}, {title_of(each.point.contender)}: {words[each.verdict]}"
        for each in judgements
        if each.point.contender.kind == "preset"
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=BUILTIN, help="builtin, or the directory of a checkpoint of the same world")
    parser.add_argument("--image-examples", type=int, default=36, help="of each kind of each of these tasks")
    parser.add_argument("--text-examples", type=int, default=14, help="of each kind of each of these tasks")
    parser.add_argument("--image-tasks", default="text_to_image", help="of the world's tasks; none: no images")
    parser.add_argument("--text-tasks", default="captioning,questions", help="of the world's tasks; none: no texts")
    parser.add_argument("--split", default="test", help="examples that training never showed")
    parser.add_argument("--cfg", type=float, help="guidance of images; default: the checkpoint's")
    parser.add_argument("--temperatures", help="of images, each for itself; default: 3 and the checkpoint's")
    parser.add_argument("--steps", type=int, help="usual steps of an image; default: the checkpoint's")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--out", type=Path, default=_RESULTS / "quality.json", help="result file")
    parser.add_argument("--plot", type=Path, default=_PLOT, help="picture of cost and quality")
    return parser.parse_args(arguments)


def _as_json(point: Point, judgement: Judgement | None) -> dict[str, Any]:
    contender = point.contender
    return {
        "unit": contender.unit,
        "kind": contender.kind,
        "name": contender.name,
        "settings": asdict(contender.settings),
        "accuracy": round(point.accuracy, 5),
        "num_examples": len(point.right),
        "flops": point.flops,
        "tokens": point.tokens,
        "accuracy_of_fewer_steps": None if judgement is None else judgement.curve_accuracy,
        "margin": None if judgement is None else judgement.margin,
        "verdict": None if judgement is None else judgement.verdict,
    }


def _names(text: str) -> list[str]:
    return [] if text == "none" else text.split(",")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every way, print the tables and the verdicts, write the numbers and the plot."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    checkpoint = find_checkpoint(options.model)
    image, text = base_settings(checkpoint.directory, options.cfg)
    image = image if options.steps is None else replace(image, num_steps=options.steps)
    benchmark = QualityBenchmark(load_model(checkpoint.directory), image, text)
    warmths = [3.0, image.temperature]
    if options.temperatures is not None:
        warmths = [float(temperature) for temperature in options.temperatures.split(",")]
    image_tasks, text_tasks = _names(options.image_tasks), _names(options.text_tasks)
    usual_image, usual_text = steps_name(image.num_steps), steps_name(text.steps_per_block * text.num_blocks)
    work = [
        *(
            (image_tasks, options.image_examples, image_contenders(replace(image, temperature=each)), usual_image)
            for each in warmths
        ),
        (text_tasks, options.text_examples, text_contenders(text), usual_text),
    ]
    judged: list[tuple[list[Point], list[Judgement]]] = []
    for tasks, num_examples, contenders, usual in work:
        if not tasks:
            continue
        plan = planned(tasks, options.split, num_examples, 0)
        points = []
        for contender in contenders:
            points.append(benchmark.measure(contender, plan))
            said = f"{title_of(contender)}: {contender.name}: {points[-1].accuracy:.1%}"
            print(said, file=sys.stderr, flush=True)
        judgements = judge_points(points)
        print(table(title_of(contenders[0]), points, judgements, usual), "", sep="\n", flush=True)
        judged.append((points, judgements))
    print(*(line for _, judgements in judged for line in verdict_lines(judgements)), sep="\n")
    print(f"{time.process_time():.0f} s of CPU time")
    save_plot(options.plot, [points for points, _ in judged])
    of_point = {id(each.point): each for _, judgements in judged for each in judgements}
    write_result(
        options.out,
        {
            "benchmark": "quality",
            **environment(torch.device("cpu")),
            "model": checkpoint.name,
            "model_digest": digest(checkpoint.directory),
            "settings": {name: value for name, value in vars(options).items() if name not in ("out", "plot")},
            "points": [_as_json(point, of_point.get(id(point))) for points, _ in judged for point in points],
        },
    )


if __name__ == "__main__":
    main()
