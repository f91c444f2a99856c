"""Pixels to codes and back, each image for itself."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dimoo_core.checkpoint.load import Model
from dimoo_core.checkpoint.weights import load_codec
from dimoo_core.codec.codec import ImageCodec
from dimoo_core.errors import RequestError, WeightsError


def random_image(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_sixteen_pixels_become_one_code_and_back(tiny_model: Model) -> None:
    (codes,) = tiny_model.codec.encode([random_image(48, 32)])
    assert codes.shape == (2, 3)
    assert codes.dtype == torch.int64
    assert codes.device.type == "cpu"
    (image,) = tiny_model.codec.decode([codes])
    assert (image.size, image.mode) == ((48, 32), "RGB")
    assert np.asarray(image).std() > 20


def test_a_batch_returns_each_image_what_it_gets_alone_in_the_order_given(tiny_model: Model) -> None:
    sizes = [(32, 32), (48, 16), (32, 32), (16, 16), (48, 16)]
    images = [random_image(*size, seed) for seed, size in enumerate(sizes)]
    alone = [tiny_model.codec.encode([image])[0] for image in images]
    together = tiny_model.codec.encode(images)
    assert all(map(torch.equal, together, alone))
    pixels = [tiny_model.codec.decode([codes])[0].tobytes() for codes in alone]
    assert [image.tobytes() for image in tiny_model.codec.decode(together)] == pixels
    assert len(set(pixels)) == len(sizes)


def test_batches_of_one_size_go_through_together_and_come_back_in_order(tiny_checkpoint: Path) -> None:
    codec = load_codec(tiny_checkpoint, device="cpu", max_batch=3)
    sizes = [(32, 32), (48, 16)] * 4
    images = [random_image(*size, seed) for seed, size in enumerate(sizes)]
    for image, codes in zip(images, codec.encode(images), strict=True):
        latents = codec.latents(codec.pixels(image))
        assert codes.shape == latents.shape[2:]
        assert (codec.quantize(latents)[0] == codes).float().mean() > 0.9


def test_large_images_go_through_one_by_one_whatever_the_batch(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of 1024x1024 keeps a GPU busy, and sixteen would take 48 GiB of it."""
    codec = load_codec(tiny_checkpoint, device="cpu", max_batch=16)
    seen: list[tuple[int, ...]] = []

    def latents(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(pixels.shape))
        return torch.zeros(len(pixels), codec._model.config.latent_channels, 1, 1)

    def reconstruction(codes: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(codes.shape))
        return torch.zeros(len(codes), 3, 16, 16)

    monkeypatch.setattr(codec, "latents", latents)
    monkeypatch.setattr(codec, "reconstruction", reconstruction)
    codec.encode([Image.new("RGB", (1024, 1024))] * 2 + [Image.new("RGB", (512, 512))] * 5)
    assert seen == [(4, 3, 512, 512), (1, 3, 512, 512), (1, 3, 1024, 1024), (1, 3, 1024, 1024)]
    seen.clear()
    codec.decode([torch.zeros(96, 96, dtype=torch.int64)] * 2 + [torch.zeros(16, 16, dtype=torch.int64)] * 17)
    assert seen == [(16, 16, 16), (1, 16, 16), (1, 96, 96), (1, 96, 96)]


def test_convolutions_on_cuda_are_of_float32(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    network = tiny_model.codec._model
    ImageCodec(network)
    assert torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(type(network), "device", torch.device("cuda"))
    ImageCodec(network)
    assert not torch.backends.cudnn.allow_tf32


def test_a_size_between_the_codes_is_scaled_down(tiny_model: Model) -> None:
    assert tiny_model.codec.encode([random_image(70, 45)])[0].shape == (2, 4)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_any_kind_of_picture_is_taken_as_rgb(tiny_model: Model, mode: str) -> None:
    image = random_image(32, 32).convert(mode)
    assert torch.equal(tiny_model.codec.encode([image])[0], tiny_model.codec.encode([image.convert("RGB")])[0])


def test_a_picture_smaller_than_a_code_is_refused(tiny_model: Model) -> None:
    with pytest.raises(RequestError, match="an image must be at least 16x16 pixels, got 40x15"):
        tiny_model.codec.encode([random_image(40, 15)])


def test_no_images_give_no_codes(tiny_model: Model) -> None:
    assert tiny_model.codec.encode([]) == []
    assert tiny_model.codec.decode([]) == []


def test_codes_and_pixels_do_not_depend_on_the_number_of_threads(tiny_model: Model) -> None:
    before, results = torch.get_num_threads(), []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        (codes,) = tiny_model.codec.encode([random_image(256, 256)])
        results.append((codes.tolist(), tiny_model.codec.decode([codes])[0].tobytes()))
        assert torch.get_num_threads() == num_threads
    torch.set_num_threads(before)
    assert results[0] == results[1]


def test_a_checkpoint_without_a_codec_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"vqvae/config\.json is missing: the checkpoint has no image codec"):
        load_codec(tmp_path, device="cpu")


def test_a_damaged_codec_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint / "vqvae", tmp_path / "vqvae")
    path = tmp_path / "vqvae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(
        WeightsError, match=r"safetensors is not a readable safetensors file: it is cut off within its header"
    ):
        load_codec(tmp_path, device="cpu")
