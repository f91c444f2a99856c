"""The codec's network against ``diffusers.VQModel``, bit for bit, and what it refuses."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dimoo_core.checkpoint.weights import load_vq_model
from dimoo_core.codec.codec import ImageCodec
from dimoo_core.codec.vqgan import VQModel
from dimoo_core.errors import WeightsError
from dimoo_core.model_config import VQConfig, codec_shapes

PUBLISHED = VQConfig(  # the published blocks, narrower
    block_out_channels=(16, 16, 32, 32, 48),
    layers_per_block=2,
    latent_channels=8,
    num_vq_embeddings=64,
    norm_num_groups=8,
    mid_block_add_attention=False,
)
CONFIGS = {
    "published blocks": PUBLISHED,
    "attention in the middle": VQConfig(
        block_out_channels=(16, 32), latent_channels=4, num_vq_embeddings=32, norm_num_groups=8
    ),
    "codes of another size than latents": VQConfig(
        block_out_channels=(16, 16),
        latent_channels=6,
        vq_embed_dim=4,
        num_vq_embeddings=32,
        norm_num_groups=4,
        mid_block_add_attention=False,
    ),
}


def theirs_from(directory: Path) -> Any:
    from diffusers import VQModel as TheirModel

    return TheirModel.from_pretrained(directory, low_cpu_mem_usage=False).eval()


def ours_in(directory: Path, config: VQConfig) -> VQModel:
    torch.manual_seed(0)
    model = VQModel(config)
    model.save(directory)
    return load_vq_model(directory, device="cpu")


@pytest.fixture
def pixels() -> torch.Tensor:
    """As the codec gives them to the network: channels last in memory."""
    return torch.rand(2, 32, 48, 3, generator=torch.Generator().manual_seed(1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_names_and_shapes_are_known_without_the_network(config: VQConfig) -> None:
    assert codec_shapes(config) == {name: tuple(tensor.shape) for name, tensor in VQModel(config).state_dict().items()}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_latents_codes_and_pixels_are_those_of_diffusers_bit_for_bit(
    tmp_path: Path, config: VQConfig, pixels: torch.Tensor
) -> None:
    ours, theirs = ours_in(tmp_path, config), theirs_from(tmp_path)
    with torch.inference_mode():
        latents = ours.encode(pixels)
        their_latents = theirs.encode(pixels).latents
        assert torch.equal(latents, their_latents)
        codes = ours.nearest_codes(latents)
        assert torch.equal(codes.flatten(), theirs.quantize(their_latents)[2][2])
        shape = (*codes.shape, config.code_size)
        assert torch.equal(ours.decode(codes), theirs.decode(codes, force_not_quantize=True, shape=shape).sample)


def test_weights_that_diffusers_wrote_are_read(tmp_path: Path, pixels: torch.Tensor) -> None:
    from diffusers import VQModel as TheirModel

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 5, "up_block_types": ("UpDecoderBlock2D",) * 5}
    theirs = TheirModel(**asdict(PUBLISHED), **blocks, lookup_from_codebook=True).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_vq_model(tmp_path, device="cpu")
    assert ours.config == PUBLISHED
    with torch.inference_mode():
        assert torch.equal(ours.encode(pixels), theirs.encode(pixels).latents)


@pytest.mark.parametrize("size", [(32, 48), (45, 63), (16, 16)])
def test_an_image_becomes_the_input_that_diffusers_makes_of_it(tmp_path: Path, size: tuple[int, int]) -> None:
    from diffusers.image_processor import VaeImageProcessor

    rng = np.random.default_rng(2)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8), "RGBA")
    found = ImageCodec(ours_in(tmp_path, PUBLISHED)).pixels(image)
    expected = VaeImageProcessor(vae_scale_factor=16, do_normalize=False).preprocess(image.convert("RGB"))
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()  # the order of sums depends on it


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm_type": "spatial"}, "norm_type must be 'group', got 'spatial'"),
        ({"act_fn": "relu"}, "act_fn must be 'silu', got 'relu'"),
        ({"lookup_from_codebook": False}, "lookup_from_codebook must be True, got False"),
        (
            {"up_block_types": ["AttnUpDecoderBlock2D"]},
            "up_block_types must be UpDecoderBlock2D for each of the 5 levels, got .'AttnUpDecoderBlock2D'.",
        ),
        (
            {"latent_channels": 9},
            r"tensor encoder.conv_out.weight must be \(9, 48, 3, 3\) by the config, got \(8, 48, 3, 3\)",
        ),
        ({"layers_per_block": 3}, "tensor .*resnets.2.* is missing"),
        ({"layers_per_block": 1}, "is not one of this network's, nor"),
        ({"norm_num_groups": 7}, "block_out_channels must be multiples of norm_num_groups 7, got 16"),
        ({"block_out_channels": 16}, "block_out_channels must be a list of 1 to 12 sizes, got 16"),
        ({"block_out_channels": []}, "block_out_channels must be a list of 1 to 12 sizes, got "),
        ({"block_out_channels": [16, 16, 32, 32, "48"]}, "block_out_channels must be a whole number .* got '48'"),
        ({"block_out_channels": None}, "block_out_channels must be a list"),
        ({"layers_per_block": 10**9}, "layers_per_block must be a whole number from 1 to 64, got 1000000000"),
        ({"num_vq_embeddings": -1}, "num_vq_embeddings must be a whole number from 1 to 16777216, got -1"),
        ({"latent_channels": 8.0}, "latent_channels must be a whole number from 1 to 65536, got 8.0"),
        ({"norm_num_groups": None}, "norm_num_groups must be a whole number from 1 to 65536, got None"),
        ({"in_channels": 4}, "in_channels must be 3, got 4"),
        ({"mid_block_add_attention": "no"}, "mid_block_add_attention must be true or false, got 'no'"),
        ({"down_block_types": 5}, "down_block_types must be DownEncoderBlock2D for each of the 5 levels, got 5"),
        ({"down_block_types": [{}]}, "down_block_types must be DownEncoderBlock2D for each"),
    ],
)
def test_another_network_is_refused_by_what_differs(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    ours_in(tmp_path, PUBLISHED)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(WeightsError, match=message):
        load_vq_model(tmp_path, device="cpu")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    ours_in(tmp_path, PUBLISHED)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(WeightsError, match="is not a readable safetensors file: it is cut off within its header"):
        load_vq_model(tmp_path, device="cpu")
    weights.unlink()
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model\.safetensors is missing"):
        load_vq_model(tmp_path, device="cpu")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json is not valid JSON"):
        load_vq_model(tmp_path, device="cpu")
