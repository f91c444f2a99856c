"""Memory in closed form: against what modules hold, and against what a process takes."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.random_checkpoint import write_random_checkpoint
from dimoo_core.checkpoint.check import check_checkpoint, expected_shapes
from dimoo_core.codec.vqgan import VQModel
from dimoo_core.memory.need import GIB, MemoryNeed, RequestShape, weight_bytes
from dimoo_core.model.float8 import FLOAT8, Float8Weight
from dimoo_core.model.transformer import Block, Transformer
from dimoo_core.model_config import DIMOO_8B, ModelConfig, VQConfig
from dimoo_core.settings import ImageSettings

_CODEC = VQConfig(block_out_channels=(16, 32, 32, 48, 64), norm_num_groups=4, latent_channels=8)
_SIZE = ModelConfig(hidden_size=64, num_heads=4, num_kv_heads=2, num_layers=3, mlp_size=192, num_embeddings=100)
_SHAPE = RequestShape.of_image(ImageSettings(width_px=512, height_px=512), 512 * 512, 0, 8192)
_NEED = MemoryNeed(config=DIMOO_8B, codec=_CODEC, dtype="bfloat16", device="cpu", shape=_SHAPE)

_MEASURED = """
import json, sys
from pathlib import Path
from benchmarks.full_size import watched_memory
import dimoo_core.engine.engine, torch
from dimoo_core.checkpoint.load import load_model
from dimoo_core.request.noise import SeededNoise
from dimoo_core.settings import ImageSettings
torch.set_num_threads(1)
with watched_memory() as peak:
    model = load_model(Path(sys.argv[1]), dtype=sys.argv[2])
    engine = dimoo_core.engine.engine.Engine(model.transformer, model.tokens)
    settings = ImageSettings(width_px=256, height_px=256, num_steps=1)
    engine.submit(model.layout.text_to_image("0", "a boat", settings, SeededNoise(0, model.device)))
    engine.step()
print(json.dumps(peak.num_bytes))
"""


@pytest.mark.parametrize(
    "config",
    [
        _CODEC,
        replace(_CODEC, layers_per_block=2, vq_embed_dim=5, mid_block_add_attention=False),
        replace(_CODEC, block_out_channels=(8, 8), num_vq_embeddings=33),
    ],
)
def test_the_codec_has_as_many_numbers_as_its_config_says(config: VQConfig) -> None:
    with torch.device("meta"):
        model = VQModel(config)
    assert config.num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_weights_take_what_their_shapes_say() -> None:
    numbers = sum(math.prod(shape) for shape in expected_shapes(_SIZE).values())
    assert [weight_bytes(_SIZE, dtype) for dtype in ("float32", "float16", "bfloat16")] == [
        4 * numbers,
        2 * numbers,
        2 * numbers,
    ]


def test_weights_in_float8_take_what_the_transformer_allocates() -> None:
    transformer = Transformer(_SIZE, device="meta", dtype=FLOAT8)
    held = sum(parameter.numel() * parameter.element_size() for parameter in transformer.parameters())
    for block in transformer.blocks:
        assert isinstance(block, Block)
        for matrix in (block.qkv, block.attn_out, block.gate_up, block.ff_out):
            assert isinstance(matrix, Float8Weight)
            held += matrix.values_OI.numel() + 4 * matrix.scales_O1.numel()
    assert weight_bytes(_SIZE, "float8") == held


def test_the_published_size_takes_more_than_a_machine_of_23_gb_in_float32_only() -> None:
    assert replace(_NEED, dtype="float32").host_bytes > 30 * GIB
    assert 15 * GIB < _NEED.host_bytes < 18 * GIB


def test_on_a_gpu_the_host_needs_what_an_adapter_takes_to_be_merged_and_nothing_of_the_model() -> None:
    on_gpu = replace(_NEED, device="cuda:1")
    with_adapter = replace(on_gpu, adapter_bytes=7, adapted_numbers=100)
    assert on_gpu.host_bytes < GIB < on_gpu.model_bytes
    assert with_adapter.host_bytes - on_gpu.host_bytes == 7 + 4 * 4 * 100
    assert with_adapter.model_bytes == on_gpu.model_bytes


@pytest.mark.parametrize(
    "changes",
    [
        {"num_requests": 4},
        {"adapter_bytes": 1, "adapted_numbers": 10},
        {"shape": replace(_SHAPE, keeps=True)},
        {"shape": replace(_SHAPE, image_px=4 * _SHAPE.image_px)},
        {"dtype": "float32"},
    ],
)
def test_everything_that_is_more_counts(changes: dict[str, object]) -> None:
    assert replace(_NEED, **changes).host_bytes > _NEED.host_bytes  # type: ignore[arg-type]


def test_a_step_is_no_larger_than_the_engine_makes_it() -> None:
    many = replace(_NEED, num_requests=10**8)
    assert many.step_bytes == replace(_NEED, num_requests=16_384 // _SHAPE.num_tokens).step_bytes
    assert replace(many, max_step_tokens=_SHAPE.num_tokens).step_bytes == _NEED.step_bytes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_estimate_is_near_what_a_process_takes_and_not_far_above(dtype: str, tmp_path: Path) -> None:
    directory = write_random_checkpoint(tmp_path, hidden_size=512, num_layers=4, num_heads=8, mlp_size=1536)
    found = check_checkpoint(directory)
    shape = RequestShape.of_image(ImageSettings(width_px=256, height_px=256), 256 * 256, 0, 8192)
    need = MemoryNeed(
        config=found.config,
        codec=found.codec,
        dtype="float32" if dtype == "float32" else "bfloat16",
        device="cpu",
        shape=shape,
    )
    command = [sys.executable, "-c", _MEASURED, str(directory), dtype]
    measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)
    # A process's memory differs by a few ten MiB from one machine to the next.
    assert 0.7 * measured < need.host_bytes < 1.1 * measured + 64 * 2**20
