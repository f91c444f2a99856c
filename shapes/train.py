"""Training the parts of the embedded model: ``python -m shapes.train codec --out DIR``."""

import argparse
from pathlib import Path

from dimoo_core.checkpoint.weights import load_codec

_CPU_MINUTES, _GPU_MINUTES = 305.0, 16.0
_SHARES = {
    "all-tasks": 0.278,
    "questions": 0.131,
    "comparisons": 0.134,
    "matches": 0.273,
    "edits": 0.118,
    "all-again": 0.066,
}
"""Of the transformer's time, by course; each begins with what the one before has made."""


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m shapes.train", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    tokenizer = parts.add_parser("tokenizer", help="the tokenizer; made, not trained, in a second")
    tokenizer.add_argument("--out", type=Path, required=True, help="checkpoint directory")
    codec = parts.add_parser("codec", help="the VQ codec")
    codec.add_argument("--out", type=Path, required=True, help="checkpoint directory; a run that was stopped goes on")
    codec.add_argument("--minutes", type=float, help="stop after this time; the same command goes on")
    codec.add_argument("--threads", type=int, default=1, help="CPU threads")
    codec.add_argument("--device", default="cpu")
    model = parts.add_parser("model", help="the transformer; the tokenizer must be there")
    model.add_argument("--out", type=Path, required=True, help="checkpoint directory; a run that was stopped goes on")
    model.add_argument("--minutes", type=float, default=60.0, help="length of the whole run, earlier starts included")
    model.add_argument("--threads", type=int, default=2, help="CPU threads")
    model.add_argument("--device", default="cpu")
    model.add_argument("--start-from", type=Path, metavar="DIR", help="checkpoint whose weights a new run begins with")
    model.add_argument("--course", default="all-tasks", choices=tuple(_SHARES), help="what is shown when")
    model.add_argument(
        "--report-every", type=int, default=50, metavar="STEPS", help="steps between two lines of the log"
    )
    mean = parts.add_parser("mean", help="the mean of what the last two courses ended with, as the weights")
    mean.add_argument("--out", type=Path, required=True, help="checkpoint directory in which both were trained")
    whole = parts.add_parser("all", help="tokenizer, codec and transformer, one after the other")
    whole.add_argument("--out", type=Path, required=True, help="checkpoint directory; a run that was stopped goes on")
    whole.add_argument("--minutes", type=float, help="for the transformer; 305 on a CPU, 16 on a GPU if not given")
    whole.add_argument("--threads", type=int, default=2, help="CPU threads")
    whole.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.part == "tokenizer":
        _make_tokenizer(arguments.out)
        return
    if arguments.part == "mean":
        _write_mean(arguments.out)
        return
    common = {"device": arguments.device, "num_threads": arguments.threads, "minutes": arguments.minutes}
    if arguments.part == "codec":
        _train_codec(arguments.out, **common)
    elif arguments.part == "model":
        _train_model(
            arguments.out,
            **common,
            course=arguments.course,
            report_every=arguments.report_every,
            start_from=arguments.start_from,
        )
    else:
        _train_all(arguments.out, **common)


def _make_tokenizer(directory: Path) -> None:
    from shapes.tokenizer import save_tokenizer

    save_tokenizer(directory)


def _train_codec(directory: Path, *, device: str, num_threads: int, minutes: float | None) -> None:
    import torch

    from shapes.codec_evaluation import evaluate_codec
    from shapes.codec_training import CodecTraining

    torch.set_num_threads(num_threads)
    is_finished = CodecTraining(directory, device=device).run(minutes=minutes)
    if is_finished:
        codec = load_codec(directory, device=device, max_batch=16)
        print(evaluate_codec(codec, "tune", num_images=400))
    else:
        print("stopped; the same command goes on")


def _train_model(
    directory: Path,
    *,
    device: str,
    num_threads: int,
    minutes: float,
    course: str = "all-tasks",
    report_every: int = 50,
    start_from: Path | None = None,
) -> None:
    import torch

    from shapes.curriculum import MUON_RATES
    from shapes.model_training import ModelTraining, TrainingConfig

    torch.set_num_threads(1)
    training = ModelTraining(
        directory,
        minutes=minutes,
        config=TrainingConfig(course=course, muon_lr=MUON_RATES[course]),
        device=device,
        num_threads=num_threads,
        start_from=start_from,
    )
    training.run(report_every=report_every)


def _write_mean(directory: Path) -> None:
    from shapes.course_mean import write_mean

    first, second = tuple(_SHARES)[-2:]
    write_mean(directory, first, second)


def _train_all(directory: Path, *, device: str, num_threads: int, minutes: float | None) -> None:
    """Each part in turn; parts that are finished are not trained again."""
    is_gpu = device.startswith("cuda")
    _make_tokenizer(directory)
    _train_codec(directory, device=device, num_threads=1 if is_gpu else num_threads, minutes=None)
    model_minutes = minutes if minutes is not None else _GPU_MINUTES if is_gpu else _CPU_MINUTES
    for course, share in _SHARES.items():
        _train_model(
            directory,
            device=device,
            num_threads=num_threads,
            minutes=model_minutes * share,
            course=course,
            start_from=directory if course != "all-tasks" else None,
        )
    _write_mean(directory)


if __name__ == "__main__":
    main()
