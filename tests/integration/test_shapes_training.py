"""The documented training commands, for a few seconds each."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest
import torch

from dimoo_core.checkpoint.weights import load_codec
from dimoo_core.request.tokenizer import Tokenizer
from shapes.evaluate import main
from shapes.package import package
from shapes.training_log import TrainingLog
from tests.support.command import REPOSITORY


def train(*arguments: object) -> str:
    """Run ``python -m shapes.train`` and return what it prints."""
    command = [sys.executable, "-m", "shapes.train", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tokenizer_command_writes_a_tokenizer_that_the_product_loads(tmp_path: Path) -> None:
    train("tokenizer", "--out", tmp_path)
    assert len(Tokenizer(tmp_path).encode("a red circle at b3")) == 5


@pytest.mark.soak
def test_codec_training_that_ran_out_of_time_continues_where_it_stopped(tmp_path: Path) -> None:
    def num_steps() -> int:
        assert "the same command goes on" in train("codec", "--out", tmp_path, "--minutes", 0.03)
        state = torch.load(tmp_path / "training" / "codec.pt", weights_only=True)
        return int(state["step"])

    first = num_steps()
    assert first > 0
    assert num_steps() > first


def test_weights_are_saved_when_a_stage_is_done(tmp_path: Path) -> None:
    from shapes.codec_training import CodecTraining, Stage

    training = CodecTraining(tmp_path, stages=(Stage("encoder", 2, 0.02),), batch_size=2)
    assert training.run()
    assert load_codec(tmp_path, device="cpu").num_codes == 128


@pytest.mark.soak
def test_training_of_the_model_continues_where_it_ended_and_leaves_a_checkpoint_to_run_and_to_package(
    tmp_path: Path,
) -> None:
    directory, packaged = tmp_path / "trained", tmp_path / "packaged"
    train("tokenizer", "--out", directory)
    copytree(REPOSITORY / "shapes" / "trained" / "vqvae", directory / "vqvae")
    steps = [0]
    for minutes in (0.05, 0.1):
        train("model", "--out", directory, "--threads", 1, "--report-every", 1, "--minutes", minutes)
        steps.append(TrainingLog(directory / "training", "all-tasks").reports()[-1]["step"])
    assert steps[0] < steps[1] < steps[2]
    for course in ("edits", "all-again"):
        more = ("--course", course, "--start-from", directory, "--threads", 1, "--report-every", 1)
        train("model", "--out", directory, *more, "--minutes", 0.05)
    train("mean", "--out", directory)

    package(directory, packaged, None)
    assert "Not evaluated yet" in (packaged / "README.md").read_text()
    main(["--model", str(packaged), "--tasks", "questions", "--per-group", "1", "--held-out", "0", "--split", "tune"])
