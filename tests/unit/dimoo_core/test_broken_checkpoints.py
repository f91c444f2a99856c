"""Every broken checkpoint of the table is refused in its words, before its weights are read if that can be."""

import shutil
from pathlib import Path

import pytest
import torch

from dimoo_core.checkpoint_files import check_files
from dimoo_core.config import read_model_config
from dimoo_core.errors import WeightsError
from dimoo_core.tokenizer import Tokenizer
from dimoo_core.vq_model import VQModel, check_codec
from dimoo_core.weights import check_weights, load_transformer
from tests.support.broken_checkpoint import BROKEN_CHECKPOINTS, BrokenCheckpoint


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def check(directory: Path) -> None:
    check_files(directory)
    config = read_model_config(directory / "config.json")
    Tokenizer(directory)
    check_codec(directory / "vqvae")
    check_weights(directory, config)


def read(directory: Path) -> None:
    config = read_model_config(directory / "config.json")
    VQModel.load(directory / "vqvae", device="cpu")
    load_transformer(directory, config, device="cpu", dtype=torch.bfloat16)


def test_a_whole_checkpoint_passes(copy: Path) -> None:
    check(copy)
    read(copy)


@pytest.mark.parametrize("broken", BROKEN_CHECKPOINTS, ids=lambda broken: broken.name)
def test_a_broken_checkpoint_is_refused_in_its_words(broken: BrokenCheckpoint, copy: Path) -> None:
    broken.apply(copy)
    if broken.known_on_reading:
        check(copy)
    with pytest.raises(WeightsError) as caught:
        (read if broken.known_on_reading else check)(copy)
    message = str(caught.value)
    place = 0
    for words in broken.words:
        assert words in message[place:], message
        place = message.index(words, place) + len(words)
    assert message.isprintable(), "one line"
    assert len(message) < 700


def test_names_are_names_of_one_entry() -> None:
    names = [broken.name for broken in BROKEN_CHECKPOINTS]
    assert len(names) == len(set(names)) >= 25
