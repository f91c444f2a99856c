"""A training of a few minutes from random weights, which must lower the loss: ``python -m shapes.smoke_training``."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from shapes.model_training import ModelTraining, TrainingConfig
from shapes.tokenizer import save_tokenizer
from shapes.training_log import TrainingLog

_REPORT_EVERY = 10
_MAX_SHARE = 0.75
_JUDGED = ("text_to_image", "captioning", "questions")  # the others begin with what the first has taught


def main() -> None:
    """Train, and exit with status 1 if the loss of prompts or of texts did not fall by a quarter at least."""
    parser = argparse.ArgumentParser(prog="python -m shapes.smoke_training", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as temporary:
        directory = Path(temporary)
        save_tokenizer(directory)
        training = ModelTraining(
            directory,
            minutes=arguments.minutes,
            config=TrainingConfig(),
            device=arguments.device,
            num_threads=arguments.threads,
        )
        training.run(report_every=_REPORT_EVERY)
        worse = tasks_not_learned(TrainingLog(directory / "training", "all-tasks").reports())
    if worse:
        sys.exit(f"the loss did not fall by a quarter: {', '.join(worse)}")
    print("the losses fell")


def tasks_not_learned(reports: list[dict[str, float]]) -> list[str]:
    """Tasks whose loss, in the last report that has it, is above three quarters of that in the first."""
    losses: dict[str, list[float]] = {}
    for report in reports:
        for name, value in report.items():
            if name in _JUDGED:
                losses.setdefault(name, []).append(value)
    if not losses:
        return ["no report was written"]
    return [
        f"{name} {found[0]:.2f} to {found[-1]:.2f}"
        for name, found in losses.items()
        if found[-1] > _MAX_SHARE * found[0]
    ]


if __name__ == "__main__":
    main()
