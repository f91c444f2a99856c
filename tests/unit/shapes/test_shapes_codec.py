"""The codec: a fixed codebook, a training that lowers the loss and can be stopped, and files that the product loads."""

import json
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch

from dimoo_core.checkpoint.weights import load_codec
from shapes.codebook import code_vectors
from shapes.codec import build_codec, draw_grids, save_codec
from shapes.codec_training import CodecTraining, Stage
from shapes.split import split_of
from shapes.tile import NUM_CODES, TILES, codes_scene
from shapes.world import Board

SHORT_STAGES = (Stage("encoder", 30, 0.02), Stage("decoder 1/8", 20, 0.03, 8), Stage("decoder", 2, 0.02, 1))


def losses(directory: Path, stage: str) -> list[float]:
    lines = (directory / "training" / "codec.jsonl").read_text().splitlines()
    return [report["loss"] for line in lines if (report := json.loads(line))["stage"] == stage]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("codec")
    assert CodecTraining(directory, stages=SHORT_STAGES, batch_size=4, report_steps=2).run()
    return directory


def test_vectors_of_used_codes_are_well_apart() -> None:
    distances = torch.cdist(code_vectors(), code_vectors())
    used = distances[: len(TILES)].fill_diagonal_(9)
    assert used.min() >= 2
    assert code_vectors().shape[0] == NUM_CODES


@pytest.mark.soak
def test_a_short_training_lowers_the_loss_of_each_network(trained: Path) -> None:
    for stage in ("encoder", "decoder 1/8"):
        reports = losses(trained, stage)
        assert mean(reports[-3:]) < 0.85 * mean(reports[:3])


@pytest.mark.soak
def test_the_product_loads_what_training_saves(trained: Path) -> None:
    codec = load_codec(trained, device="cpu")
    assert (codec.num_codes, codec.pixels_per_code) == (NUM_CODES, 16)
    (image,) = codec.decode([torch.zeros(3, 4, dtype=torch.int64)])
    assert image.size == (64, 48)
    (codes,) = codec.encode([image])
    assert codes.shape == (3, 4)
    assert (trained / "vqvae" / "diffusion_pytorch_model.safetensors").stat().st_size < 2_500_000
    assert (trained / "training" / "codec.png").exists()


def test_a_stopped_training_continues_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    stages = (Stage("encoder", 4, 0.02),)
    whole = CodecTraining(tmp_path / "whole", stages=stages, batch_size=4, report_steps=2)
    whole.run()
    first = CodecTraining(tmp_path / "parts", stages=stages, batch_size=4, report_steps=2)
    assert not first.run(minutes=0)
    rest = CodecTraining(tmp_path / "parts", stages=stages, batch_size=4, report_steps=2)
    assert rest.run()
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(rest.model.state_dict()[name], weight, rtol=0, atol=0)


@pytest.mark.soak
def test_training_never_moves_the_codebook(trained: Path) -> None:
    codec = CodecTraining(trained, stages=SHORT_STAGES)
    assert codec.is_finished
    torch.testing.assert_close(codec.model.quantize.embedding.weight, code_vectors(), rtol=0, atol=0)


def test_training_boards_are_no_scenes_of_the_other_splits() -> None:
    grids = draw_grids(np.random.default_rng(0), Board(3, 3), 200)
    scenes = [codes_scene(grid) for grid in grids]
    assert {split_of(scene) for scene in scenes if scene is not None} == {"train"}
    assert any(scene is None for scene in scenes), "maps are trained too"


def test_saved_weights_are_rounded_to_half_precision_and_no_more(tmp_path: Path) -> None:
    model = build_codec()
    save_codec(model, tmp_path)
    loaded = load_codec(tmp_path, device="cpu")
    pixels = torch.rand(1, 3, 48, 48)
    torch.testing.assert_close(loaded.latents(pixels), model.encode(pixels), rtol=0.05, atol=0.02)
