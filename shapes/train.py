"""Training the parts of the embedded model: ``python -m shapes.train codec --out DIR``."""

import argparse
from pathlib import Path


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
    arguments = parser.parse_args()
    if arguments.part == "tokenizer":
        _make_tokenizer(arguments)
    elif arguments.part == "codec":
        _train_codec(arguments)
    else:
        _train_model(arguments)


def _make_tokenizer(arguments: argparse.Namespace) -> None:
    from shapes.tokenizer import save_tokenizer

    save_tokenizer(arguments.out)


def _train_codec(arguments: argparse.Namespace) -> None:
    import torch

    from dimoo_core.image_codec import ImageCodec
    from shapes.codec_evaluation import evaluate_codec
    from shapes.codec_training import CodecTraining

    torch.set_num_threads(arguments.threads)
    is_finished = CodecTraining(arguments.out, device=arguments.device).run(minutes=arguments.minutes)
    if is_finished:
        codec = ImageCodec.load(arguments.out, device=arguments.device, max_batch=16)
        print(evaluate_codec(codec, "tune", num_images=400))
    else:
        print("stopped; the same command goes on")


def _train_model(arguments: argparse.Namespace) -> None:
    import torch

    from shapes.model_training import ModelTraining, TrainingConfig

    torch.set_num_threads(1)
    training = ModelTraining(
        arguments.out,
        minutes=arguments.minutes,
        config=TrainingConfig(),
        device=arguments.device,
        num_threads=arguments.threads,
    )
    training.run()


if __name__ == "__main__":
    main()
