"""Pixels to VQ codes and back, through the checkpoint's VQGAN (that of aMUSEd, one code for 16x16 pixels).

Source: ``encode_img_with_breaks`` and ``decode_vq_to_image`` of the reference.
Dimensions: B images, H rows and W columns of codes.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dimoo_core.codec.vqgan import VQModel
from dimoo_core.errors import CodecNotFinite, RequestError

Out = TypeVar("Out")

_NOT_FINITE = "are not finite in float32: vqvae/ of the checkpoint is damaged or no codec of this kind"

_BATCH_CODES = 4096  # of an image of 1024x1024: larger ones keep a GPU busy, and take 3 GiB of it, each


class ImageCodec:
    """The checkpoint's ``vqvae/``. Safe to share by threads.

    On a CPU the network runs on one thread of its own, whoever calls. The reference's encoder input is laid out
    channels last, and there torch's group normalisation adds up each thread's share in float32: at 1024x1024 the sums
    are so inexact that another number of threads changes one code in forty. One thread is what the goldens were
    recorded with, and makes codes and pixels independent of the number of workers and cores. On CUDA convolutions are
    computed in float32, too, not in the 10 bits of TF32 that are torch's default: this is set for the process.

    Args:
        model: The network on its device, in float32 as in the reference.
        max_batch: Images of one size that go through the network together, if they are small. 1 makes an image's codes
            and pixels the same, bit for bit, whatever it is called with; convolutions do not promise that for larger
            batches.
    """

    def __init__(self, model: VQModel, *, max_batch: int = 1) -> None:
        self._model = model
        self._max_batch = max_batch
        self.num_codes: int = model.config.num_vq_embeddings
        self.pixels_per_code: int = model.config.pixels_per_code
        self._thread = _single_thread() if model.device.type == "cpu" else None
        if model.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False

    def encode(self, images: Sequence[Image.Image]) -> list[Tensor]:
        """VQ codes of each image, (H, W) int64 on the CPU.

        A size that is not a multiple of the code's size is scaled down to one first (Lanczos).

        Raises:
            RequestError: If an image is smaller than one code.
            CodecNotFinite: If what the network makes of one is not finite.
        """
        return _all_finite(self.try_encode(images))

    def try_encode(self, images: Sequence[Image.Image]) -> list[Tensor | CodecNotFinite]:
        """As ``encode``, with an error in place of the codes of an image whose numbers are not finite.

        Raises:
            RequestError: If an image is smaller than one code.
        """
        pixels = [self.pixels(image) for image in images]
        return self._in_batches(pixels, self._encode_batch)

    def pixels(self, image: Image.Image) -> Tensor:
        """The encoder's input for one image, (1, 3, height, width) in 0..1."""
        if min(image.size) < self.pixels_per_code:
            least = self.pixels_per_code
            raise RequestError(f"an image must be at least {least}x{least} pixels, got {image.width}x{image.height}")
        width, height = (side - side % self.pixels_per_code for side in image.size)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        pixels_1hw3 = np.asarray(resized, dtype=np.float32)[None] / 255.0
        return torch.from_numpy(pixels_1hw3).permute(0, 3, 1, 2)  # channels stay last in memory

    def latents(self, pixels_B3hw: Tensor) -> Tensor:
        """The encoder's output before quantisation, (B, channels, H, W)."""
        return self._run(lambda: self._model.encode(pixels_B3hw.to(self._model.device)))

    def decode(self, codes: Sequence[Tensor]) -> list[Image.Image]:
        """Images of (H, W) code grids.

        Raises:
            CodecNotFinite: If what the network makes of one is not finite.
        """
        return _all_finite(self.try_decode(codes))

    def try_decode(self, codes: Sequence[Tensor]) -> list[Image.Image | CodecNotFinite]:
        """As ``decode``, with an error in place of an image whose numbers are not finite."""
        return [_to_image(pixels_3hw) for pixels_3hw in self._in_batches(list(codes), self._decode_batch)]

    def reconstruction(self, codes_BHW: Tensor) -> Tensor:
        """The decoder's output before clipping, (B, 3, height, width), nominally in 0..1."""
        return self._run(lambda: self._model.decode(codes_BHW.to(self._model.device)))

    def quantize(self, latents_BCHW: Tensor) -> Tensor:
        """Nearest codebook entry of each latent, (B, H, W) int64 on the CPU."""
        return self._run(lambda: self._model.nearest_codes(latents_BCHW).cpu())

    def _run(self, work: Callable[[], Out]) -> Out:
        """Do a piece of the network's work where it belongs."""

        def without_gradients() -> Out:
            with torch.inference_mode():
                return work()

        return without_gradients() if self._thread is None else self._thread.submit(without_gradients).result()

    def _encode_batch(self, pixels: list[Tensor]) -> list[Tensor | CodecNotFinite]:
        latents_BCHW = self.latents(torch.cat(pixels))
        return self._run(lambda: self._codes_of(latents_BCHW))

    def _codes_of(self, latents_BCHW: Tensor) -> list[Tensor | CodecNotFinite]:
        """Nearest codes; squares are what their distances are made of. One copy to the host for both."""
        codes_BHW = self._model.nearest_codes(latents_BCHW)
        is_finite_B = latents_BCHW.flatten(1).square().sum(1).isfinite()
        fetched = torch.cat((codes_BHW.flatten(1), is_finite_B.long()[:, None]), dim=1).cpu()
        return [
            codes_N[:-1].view(codes_BHW.shape[1:]) if codes_N[-1] else CodecNotFinite(f"an image's codes {_NOT_FINITE}")
            for codes_N in fetched
        ]

    def _decode_batch(self, codes: list[Tensor]) -> list[Tensor]:
        return list(self.reconstruction(torch.stack(codes)).cpu())

    def _in_batches(self, inputs: list[Tensor], run: Callable[[list[Tensor]], list[Out]]) -> list[Out]:
        """Run equal shapes together, as many at a time as ``max_batch`` and memory allow; results in order."""
        order = sorted(range(len(inputs)), key=lambda index: tuple(inputs[index].shape))
        outputs: dict[int, Out] = {}
        for _, group in groupby(order, key=lambda index: tuple(inputs[index].shape)):
            members = list(group)
            num_together = max(1, min(self._max_batch, _BATCH_CODES // self._num_codes_of(inputs[members[0]])))
            for start in range(0, len(members), num_together):
                batch = members[start : start + num_together]
                outputs |= dict(zip(batch, run([inputs[index] for index in batch]), strict=True))
        return [outputs[index] for index in range(len(inputs))]

    def _num_codes_of(self, pixels_or_codes: Tensor) -> int:
        height, width = pixels_or_codes.shape[-2:]
        is_pixels = pixels_or_codes.dim() > 2
        return height * width // (self.pixels_per_code**2 if is_pixels else 1)


def _single_thread() -> ThreadPoolExecutor:
    """An executor whose one thread computes on one core; the caller's number of threads stays as it is."""
    num_threads = torch.get_num_threads()
    executor = ThreadPoolExecutor(1, "image-codec", initializer=torch.set_num_threads, initargs=(1,))
    executor.submit(torch.get_num_threads).result()
    torch.set_num_threads(num_threads)  # torch's setter is partly global
    return executor


def _all_finite(results: list[Out | CodecNotFinite]) -> list[Out]:
    finite: list[Out] = []
    for result in results:
        if isinstance(result, CodecNotFinite):
            raise result
        finite.append(result)
    return finite


def _to_image(pixels_3hw: Tensor) -> Image.Image | CodecNotFinite:
    if not pixels_3hw.isfinite().all():
        return CodecNotFinite(f"an image's pixels {_NOT_FINITE}")
    bytes_hw3 = (pixels_3hw.clip(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    return Image.fromarray(bytes_hw3.numpy())
