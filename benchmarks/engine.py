"""What an image and a caption cost under each preset and at each batch size: tokens, arithmetic and process time.

``python -m benchmarks.engine [--flops-only] [--shape proportional] [--size 384x384] [--steps 64] [--presets NAME,...]
[--batch 1,4] [--caption-image 384] [--caption-steps 128] [--repeats 3] [--threads 2] [--out FILE]``

Times are those of a small model whose head takes as much of the arithmetic as the published one's; next to them stand
those of a plain loop over the same weights. ``--flops-only`` measures nothing and counts at the published shape,
1024x1024, on tensors without storage. Both need torch alone.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import torch

from benchmarks.case import Case, cases_in_order
from benchmarks.flop_comparison import Counting
from benchmarks.preset_cost import Cost, CostCounter, time_costs
from benchmarks.random_weights import random_transformer
from benchmarks.result_file import environment, write_result
from benchmarks.shape import SHAPES, Shape
from benchmarks.timing import Subject
from benchmarks.workload import parse_size
from dimoo_core.presets import DEFAULT_PRESET, PRESETS, find_preset
from dimoo_core.settings import PIXELS_PER_TOKEN

_ROW = "  {:<18}{:>6}{:>13}{:>8}{:>12}{:>8}{:>12}{:>10}"
_HEADER = ("preset", "batch", "tokens each", "share", "TFLOP each", "share", "process s", "to plain")
_TERA = 1e12


def table(costs: Sequence[Cost]) -> str:
    """The costs of one kind of work for people."""
    first = costs[0]
    lines = [
        f"{_work(first.case)}, {first.case.num_steps} steps: the reference computes {first.reference_tokens:,} tokens, "
        f"{first.reference_flops / _TERA:,.4g} TFLOP, {first.reference_head_share:.1%} of it in the head",
        _ROW.format(*_HEADER),
    ]
    for cost in costs:
        is_timed = bool(cost.process_s)
        lines.append(
            _ROW.format(
                cost.case.preset,
                cost.case.batch,
                f"{cost.tokens:,.0f}",
                f"{cost.tokens / cost.reference_tokens:.3f}",
                f"{cost.flops / _TERA:,.4g}",
                f"{cost.share:.3f}",
                f"{min(cost.process_s):.3f}" if is_timed else "-",
                f"{cost.speedup:.2f}x" if is_timed else "-",
            )
        )
    return "\n".join(lines)


def _work(case: Case) -> str:
    if case.unit == "caption":
        return f"caption of a {case.settings['image_px']} px image"
    return f"image {case.settings['width_px']}x{case.settings['height_px']}"


def exact_share(costs: Sequence[Cost]) -> float:
    """Of the reference's arithmetic, for an image of the smallest batch."""
    exact = [cost for cost in costs if cost.case.unit == "image" and cost.case.preset == DEFAULT_PRESET]
    return min(exact, key=lambda cost: cost.case.batch).share


def _as_json(cost: Cost) -> dict[str, object]:
    return {
        "name": cost.case.name,
        "unit": cost.case.unit,
        "preset": cost.case.preset,
        "batch": cost.case.batch,
        "settings": cost.case.settings,
        "steps": cost.case.num_steps,
        "tokens": cost.tokens,
        "flops": cost.flops,
        "share_of_reference": cost.share,
        "reference_tokens": cost.reference_tokens,
        "reference_flops": cost.reference_flops,
        "reference_head_share": cost.reference_head_share,
        "process_s": cost.process_s,
        "plain_process_s": cost.plain_process_s,
        "median_to_plain": cost.speedup if cost.process_s else None,
    }


def _cases(shape: Shape, options: argparse.Namespace) -> list[list[Case]]:
    """The cases of each kind of work; the first preset of all is ``exact``, alone."""
    batches = [int(batch) for batch in options.batch.split(",")]
    cases = cases_in_order(
        shape,
        sizes=[parse_size(options.size)],
        num_steps=options.steps,
        image_batches=batches,
        caption_batches=batches,
        caption_image_px=options.caption_image,
        caption_steps=options.caption_steps,
        presets=[find_preset(name) for name in options.presets.split(",")],
    )
    by_work = sorted(cases, key=lambda case: (case.unit != "image", list(PRESETS).index(case.preset)))
    return [list(group) for _, group in groupby(by_work, key=lambda case: case.unit)]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__.partition("\n")[0])
    parser.add_argument("--flops-only", action="store_true", help="count at the published shape, measure nothing")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="default: proportional; 8b with --flops-only")
    parser.add_argument("--size", help="of the image; default: 384x384, 1024x1024 with --flops-only")
    parser.add_argument("--steps", type=int, default=64, help="denoising steps of the image")
    parser.add_argument("--presets", default=",".join(PRESETS), help="by name")
    parser.add_argument("--batch", help="images, or captions, that run together; default: 1,4, 1 with --flops-only")
    parser.add_argument("--caption-image", type=int, help="side of a captioned image in pixels; default: as --size")
    parser.add_argument("--caption-steps", type=int, default=128, help="of an answer of 128 tokens")
    parser.add_argument("--repeats", type=int, default=3, help="alternated runs of each case")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--out", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)
    options.shape = options.shape or ("8b" if options.flops_only else "proportional")
    options.size = options.size or ("1024x1024" if options.flops_only else "384x384")
    options.batch = options.batch or ("1" if options.flops_only else "1,4")
    if options.caption_image is None:
        options.caption_image = min(parse_size(options.size)) // PIXELS_PER_TOKEN * PIXELS_PER_TOKEN
    if DEFAULT_PRESET not in options.presets.split(","):
        parser.error(f"--presets must name {DEFAULT_PRESET!r}, which the others are compared with")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, measure, print, and write the numbers if asked to."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    shape = SHAPES[options.shape]
    counter = CostCounter(Counting(shape))
    subject = None if options.flops_only else Subject(random_transformer(shape), shape)
    costs: list[Cost] = []
    for cases in _cases(shape, options):
        of_work = [counter.cost(case) for case in cases]
        if subject is not None:
            time_costs(subject, of_work, options.repeats, lambda line: print(line, file=sys.stderr, flush=True))
        print(table(of_work), "", sep="\n", flush=True)
        costs += of_work
    print("shares are of what the reference does for one; deciding sure tokens at once makes it less")
    print(f"exact share of reference FLOPs: {exact_share(costs):.3f}")
    if options.out is not None:
        settings = {name: value for name, value in vars(options).items() if name not in ("out", "flops_only")}
        device = torch.device("cpu")
        write_result(
            options.out,
            {
                "benchmark": "engine",
                **environment(device),
                "is_timed": subject is not None,
                "settings": settings,
                "costs": list(map(_as_json, costs)),
            },
        )


if __name__ == "__main__":
    main()
