"""How good the embedded model is, by category: ``python -m shapes.evaluate``.

Every output comes from the product's own engine and codec, on prompts and scenes that training never showed, and is
judged by rules. The table is in the manner of GenEval; ``--json`` writes the same for programs.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from dimoo_core.checkpoint import BUILTIN
from dimoo_core.settings import ImageSettings, TextSettings
from jobs.generation_defaults import with_generation_defaults
from jobs.spec import load_spec
from shapes.score import Score, summed, table
from shapes.split import SPLITS
from shapes.task import TASKS


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m shapes.evaluate", description=__doc__)
    parser.add_argument("--model", default=BUILTIN, help="builtin, checkpoint directory or hub id")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="TASK")
    parser.add_argument("--per-group", type=int, default=400, help="examples of each kind of each task")
    parser.add_argument("--held-out", type=int, help="examples of each kind with a held-out combination")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--steps", type=int, help="denoising steps of images and texts")
    parser.add_argument("--cfg", type=float, help="guidance of images by the prompt")
    parser.add_argument("--temperature", type=float, help="of images")
    parser.add_argument("--batch", type=int, help="requests in the engine at a time; as many as fit if not given")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--json", type=Path, help="file to write the scores to")
    parser.add_argument("--show-wrong", type=int, default=0, metavar="N", help="print N wrong outputs of each kind")
    return parser.parse_args()


def main() -> None:
    """Evaluate and print the table."""
    args = arguments()
    import torch

    from dimoo_core.checkpoint import digest, find_checkpoint
    from dimoo_core.model import load_model
    from shapes.evaluation import HELD_OUT, WrongOutput, categories, evaluate
    from shapes.generation import ExampleGenerator
    from shapes.package import WEIGHTS, sha256

    torch.set_num_threads(args.threads)
    checkpoint = find_checkpoint(args.model)
    model = load_model(checkpoint.directory, device=args.device, dtype=args.dtype)
    image, text = settings(args, checkpoint.directory)
    generator = ExampleGenerator(model, image=image, text=text, max_running=args.batch)
    started_s = time.monotonic()
    scores: list[Score] = []
    wrong: list[WrongOutput] = []
    num_held_out = args.per_group if args.held_out is None else args.held_out
    plan = [(None, args.per_group), *((name, num_held_out) for name in HELD_OUT)]
    for held_out, num_examples in plan:
        for category in categories(args.tasks, args.split, num_examples, held_out=held_out) if num_examples else ():
            score, wrong_here = evaluate(generator, category)
            scores.append(score)
            wrong += wrong_here
            for each in wrong_here[: args.show_wrong]:
                print(f"  {each.category}: {each.prompt!r}: {each.mistake}: {each.reason} {each.output}", flush=True)
    seen = [score for score in scores if score.held_out is None]
    print(table([*seen, *summed(seen)]))
    if len(scores) > len(seen):
        print(f"\n{table([score for score in scores if score.held_out is not None])}")
    elapsed_s = time.monotonic() - started_s
    print(f"\n{sum(score.total for score in scores):,} examples in {elapsed_s:.0f} s")
    if args.json is not None:
        report = {
            "model": checkpoint.name,
            "model_digest": digest(checkpoint.directory),
            "weights_sha256": sha256(checkpoint.directory / WEIGHTS),
            "split": args.split,
            "per_group": args.per_group,
            "image": asdict(image),
            "text": asdict(text),
            "dtype": args.dtype,
            "device": args.device,
            "elapsed_s": round(elapsed_s, 1),
            "scores": [score.to_json() for score in scores],
            "totals": [score.to_json() for score in summed(seen)],
            "wrong": [asdict(each) for each in wrong],
        }
        args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def settings(args: argparse.Namespace, directory: Path) -> tuple[ImageSettings, TextSettings]:
    """The checkpoint's own generation settings, with what the command line says put over them."""
    given = {
        "text_to_image.steps": args.steps,
        "text_to_image.cfg_scale": args.cfg,
        "text_to_image.temperature": args.temperature,
        "understanding.steps": args.steps,
    }
    assignments = [f"{key}={value}" for key, value in given.items() if value is not None]
    defaults = with_generation_defaults(load_spec(None, {"manifest": "-"}, assignments), directory).row_defaults()
    return defaults.text_to_image, defaults.understanding


if __name__ == "__main__":
    main()
