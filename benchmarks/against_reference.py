"""This engine against the official implementation, on one CPU, in one process, with equal weights, prompts and noise.

``python -m benchmarks.against_reference --reference DIR [--work 384x384,512x512,caption] [--repeats 3] [--steps N]
[--max-seconds N] [--threads 2] [--presets NAME,...] [--out FILE]``

DIR is a clone of github.com/Alpha-VLLM/Lumina-DiMOO that the user made; it is imported as it is. Ratios are those
of the process's CPU time, a pair each repeat, their medians. Exit status 1 if tokens differ where they must not.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch

from benchmarks.counting_transformer import PlainCounter
from benchmarks.random_checkpoint import write_random_checkpoint
from benchmarks.reference_clone import ReferenceClone, clone_state
from benchmarks.reference_comparison import ReferenceComparison, Work, WorkResult, summary, with_steps
from benchmarks.result_file import environment, write_result
from benchmarks.workload import sequence_lengths
from dimoo_core.checkpoint.load import Model, load_model
from dimoo_core.presets import PRESETS, find_preset
from dimoo_core.settings import ImageSettings, TextSettings

WORKS = {
    "384x384": Work(name="384x384", settings=ImageSettings(width_px=384, height_px=384)),
    "512x512": Work(name="512x512", settings=ImageSettings(width_px=512, height_px=512)),
    "caption": Work(
        name="caption", settings=TextSettings(max_tokens=128, block_length=32, num_steps=128), image_px=512
    ),
}
"""64 steps and guidance 4 for images; one step a token for answers, the default of the reference's text generator."""

CHECKPOINTS = {
    "proportional": {"hidden_size": 256, "num_layers": 9, "mlp_size": 768, "num_codes": 192, "unused_ids": 2579},
    "tiny": {"hidden_size": 32, "num_layers": 2, "mlp_size": 96, "num_codes": 24, "unused_ids": 0},
}
"""``proportional``: as in the 8B, 6 to 7% of the arithmetic in the head and a sixteenth of its columns VQ codes."""


def head_share(model: Model, work: Work) -> float:
    """The head's share of the reference's arithmetic."""
    counter = PlainCounter(model.config)
    per_stream = [counter.stream_flops(length) for length in sequence_lengths(work.request(model, 0))]
    return sum(flops.head for flops in per_stream) / sum(flops.total for flops in per_stream)


def write_checkpoint(directory: Path, name: str) -> Path:
    """A checkpoint of one of the shapes, float32, so that both implementations read equal weights."""
    return write_random_checkpoint(directory, seed=1, dtype="float32", **CHECKPOINTS[name])  # type: ignore[arg-type]


def compare(options: argparse.Namespace, checkpoint: Path) -> tuple[dict[str, object], bool]:
    """Run every kind of work; the JSON form, and whether all tokens agree where they must."""
    model = load_model(checkpoint, dtype="float32")
    reference = ReferenceClone(options.reference, checkpoint, model.tokens)
    comparison = ReferenceComparison(model, reference)
    presets = [find_preset(name) for name in options.presets.split(",")]
    results: list[dict[str, object]] = []
    all_agree = True
    started_s = time.monotonic()
    names = options.work.split(",")
    for index, name in enumerate(names):
        work = WORKS[name] if options.steps is None else with_steps(WORKS[name], options.steps)
        share = head_share(model, work)
        end_s = started_s + options.max_seconds * (index + 1) / len(names)
        result = comparison.run(work, options.repeats, presets, _say, end_s=end_s)
        print(
            f"{work.name}: head {share:.1%} of the reference's arithmetic",
            *summary(result.comparisons),
            sep="\n",
            flush=True,
        )
        results.append({"head_share": share, **_as_json(result)})
        all_agree &= all(one.agrees for one in result.comparisons)
    return {"results": results}, all_agree


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _as_json(result: WorkResult) -> dict[str, object]:
    return {
        "work": asdict(result.work),
        "cpu_s": result.cpu_s,
        "presets": [
            {
                **asdict(one),
                "median_to_plain": median(one.to_plain),
                "median_to_cached": median(one.to_cached) if one.to_cached else None,
            }
            for one in result.comparisons
        ],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the numbers if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against_reference", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--reference", type=Path, required=True, help="a clone of the official repository")
    parser.add_argument("--work", default=",".join(WORKS), help=f"of {', '.join(WORKS)}")
    parser.add_argument("--presets", default=",".join(PRESETS), help="by name")
    parser.add_argument("--shape", choices=sorted(CHECKPOINTS), default="proportional", help="the model")
    parser.add_argument("--steps", type=int, help="instead of 64 for images and 128 for answers")
    parser.add_argument("--repeats", type=int, default=3, help="pairs")
    parser.add_argument("--max-seconds", type=float, default=math.inf, help="begin no further pair after so long")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--out", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    state = clone_state(options.reference)
    print(f"reference {state}, {options.threads} threads, {options.shape} model")
    with tempfile.TemporaryDirectory() as scratch:
        numbers, all_agree = compare(options, write_checkpoint(Path(scratch), options.shape))
    if options.out is not None:
        settings = {name: getattr(options, name) for name in ("shape", "steps", "repeats", "threads")}
        about = {"reference": asdict(state), "settings": settings, "checkpoint": CHECKPOINTS[options.shape]}
        write_result(
            options.out,
            {"benchmark": "against_reference", **environment(torch.device("cpu")), **about, **numbers},
        )
    return 0 if all_agree else 1


if __name__ == "__main__":
    sys.exit(main())
