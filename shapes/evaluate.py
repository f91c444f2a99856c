"""How good the embedded model is, by category: ``python -m shapes.evaluate``.

Every output comes from the product's own engine and codec, on prompts and scenes that training never showed, and is
judged by rules. The table is in the manner of GenEval; ``--json`` writes the same for programs.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from dimoo_core.checkpoint.locate import BUILTIN
from dimoo_core.presets import DEFAULT_PRESET, PRESETS
from dimoo_core.settings import DtypeName
from shapes.split import SPLITS
from shapes.task import TASKS
from shapes.world import BOARDS

_BOARDS = {f"{board.rows}x{board.columns}": board for board in BOARDS}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m shapes.evaluate", description=__doc__)
    parser.add_argument("--model", default=BUILTIN, help="builtin, checkpoint directory or hub id")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="TASK")
    parser.add_argument("--per-group", type=int, default=400, help="examples of each kind of each task")
    parser.add_argument("--held-out", type=int, help="examples of each kind with a held-out combination")
    parser.add_argument("--boards", nargs="+", choices=list(_BOARDS), default=list(_BOARDS), help="rows by columns")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--preset", choices=list(PRESETS), default=DEFAULT_PRESET)
    parser.add_argument("--steps", type=int, help="denoising steps of images and texts")
    parser.add_argument("--cfg", type=float, help="guidance of images by the prompt")
    parser.add_argument("--temperature", type=float, help="of images")
    parser.add_argument("--batch", type=int, help="requests in the engine at a time; as many as fit if not given")
    parser.add_argument("--pipeline", action="store_true", help="run a manifest, with the tasks that it can ask for")
    parser.add_argument("--workers", type=int, default=0, help="of the pipeline")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=get_args(DtypeName))
    parser.add_argument("--json", type=Path, help="file to write the scores to")
    parser.add_argument("--show-wrong", type=int, default=0, metavar="N", help="print N wrong outputs of each kind")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Evaluate and print the table."""
    args = arguments(given)
    import torch

    from dimoo_core.checkpoint.locate import find_checkpoint
    from shapes.evaluation import evaluate, planned
    from shapes.score import report_tables

    torch.set_num_threads(args.threads)
    checkpoint = find_checkpoint(args.model)
    started_s = time.monotonic()
    generate = _pipeline(args) if args.pipeline else _engine(args, checkpoint.directory)
    held_out = args.per_group if args.held_out is None else args.held_out
    boards = tuple(_BOARDS[name] for name in args.boards)
    plan = planned(args.tasks, args.split, args.per_group, held_out, is_manifest=args.pipeline, boards=boards)
    scores, wrong = evaluate(plan, generate, num_shown=args.show_wrong)
    elapsed_s = time.monotonic() - started_s
    print(report_tables(scores))
    print(f"\n{sum(score.total for score in scores):,} examples in {elapsed_s:.0f} s")
    if args.json is not None:
        report = _description(args, checkpoint.name, checkpoint.directory) | {
            "elapsed_s": round(elapsed_s, 1),
            "scores": [score.to_json() for score in scores],
            "wrong": [asdict(each) for each in wrong],
        }
        args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _engine(args: argparse.Namespace, directory: Path) -> Any:
    from dimoo_core.checkpoint.load import load_model
    from shapes.generation import ExampleGenerator

    model = load_model(directory, device=args.device, dtype=args.dtype)
    image, text = _settings(args, directory)
    return ExampleGenerator(model, image=image, text=text, max_running=args.batch).generate


def _pipeline(args: argparse.Namespace) -> Any:
    from functools import partial

    from shapes.pipeline_run import run_examples

    overrides = [*_assignments(args), f"device={args.device}", f"dtype={args.dtype}"]
    return partial(run_examples, model=args.model, overrides=overrides, workers=args.workers)


def _assignments(args: argparse.Namespace) -> list[str]:
    """What the command line says, as a job spec says it."""
    given = {
        "preset": args.preset,
        "text_to_image.steps": args.steps,
        "text_to_image.cfg_scale": args.cfg,
        "text_to_image.temperature": args.temperature,
        "understanding.steps": args.steps,
    }
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def _settings(args: argparse.Namespace, directory: Path) -> Any:
    """The settings of images and of texts that a run with this command line would have."""
    from dimoo_core.presets import find_preset
    from jobs.spec.resolve import with_generation_defaults
    from jobs.spec.spec import load_spec

    spec = with_generation_defaults(load_spec(None, {"manifest": "-"}, _assignments(args)), directory)
    defaults = spec.row_defaults()
    preset = find_preset(defaults.preset)
    image = preset.image(defaults.text_to_image, defaults.explicit_text_to_image)
    return image, preset.text(defaults.understanding, defaults.explicit_understanding)


def _description(args: argparse.Namespace, name: str, directory: Path) -> dict[str, Any]:
    """What was evaluated, and how."""
    from dimoo_core.checkpoint.locate import digest
    from shapes.package import WEIGHTS, sha256

    image, text = _settings(args, directory)
    return {
        "model": name,
        "model_digest": digest(directory),
        "weights_sha256": sha256(directory / WEIGHTS),
        "split": args.split,
        "per_group": args.per_group,
        "boards": args.boards,
        "is_pipeline": args.pipeline,
        "preset": args.preset,
        "image": asdict(image),
        "text": asdict(text),
        "dtype": args.dtype,
        "device": args.device,
    }


if __name__ == "__main__":
    main()
