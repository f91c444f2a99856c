"""A whole checkpoint is loaded, or it is said what is missing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dimoo_core.checkpoint.load import Model, load_model
from dimoo_core.codec.vqgan import VQModel
from dimoo_core.errors import ConfigError, WeightsError
from dimoo_core.model_config import VQConfig


def test_the_parts_of_a_model_belong_together(odd_model: Model) -> None:
    assert odd_model.device == odd_model.transformer.device == torch.device("cpu")
    assert odd_model.transformer.dtype == torch.float32
    assert odd_model.transformer.config is odd_model.config
    assert odd_model.codec.num_codes == odd_model.tokens.num_codes == 8192
    assert odd_model.tokens.image_columns.stop < odd_model.config.num_embeddings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device must be a torch device such as 'cpu' or 'cuda:0', got 'gpu'"),
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16, float8, got 'int8'"),
    ],
)
def test_a_wrong_device_or_type_is_named(tiny_checkpoint: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_model(tiny_checkpoint, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_cuda_device_that_is_not_there_is_named(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"device 'cuda:1' was asked for, but torch .* sees no CUDA device"):
        load_model(tiny_checkpoint, device="cuda:1")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vqvae/config.json", "model.safetensors"])
def test_a_missing_file_is_named(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    (copy / name).unlink()
    with pytest.raises(WeightsError, match=name):
        load_model(copy)


def test_a_codec_of_another_factor_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy", ignore=shutil.ignore_patterns("vqvae")))
    VQModel(VQConfig(block_out_channels=(16,), norm_num_groups=8, num_vq_embeddings=8192)).save(copy / "vqvae")
    with pytest.raises(WeightsError, match="one code must stand for 16 pixels, got 1"):
        load_model(copy)


def test_a_vocabulary_of_another_size_than_the_tensors_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"embedding_size": 8000}))
    with pytest.raises(WeightsError, match=r"ff_out\.weight must have shape \(8000, 64\) by the config, got"):
        load_model(copy)
