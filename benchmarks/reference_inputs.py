"""What the official implementation makes of prompts and pixels, by its own functions: sequences and images.

Needs diffusers, whose network is the reference's image codec, and no weights of the transformer.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.reference_clone import clone_module
from dimoo_core.errors import ConfigError
from dimoo_core.request.tokens import SpecialTokens

_ROLES = {
    "mask": "mask_token",
    "newline": "newline_token",
    "answer_begin": "answer_start",
    "answer_end": "answer_end",
    "image_begin": "boi",
    "image_end": "eoi",
    "image_offset": "image_token_offset",
}


class ReferenceInputs:
    """The reference's prompts, tokenizer and image codec for one checkpoint.

    On a CPU its codec runs on one thread, as the engine's does: see ``ImageCodec``.

    Raises:
        ConfigError: If the directory is no clone, or diffusers is not installed.
    """

    def __init__(self, directory: Path, checkpoint: Path, device: torch.device) -> None:
        try:
            from diffusers import VQModel
        except ImportError as error:
            raise ConfigError(
                "the reference's image functions need diffusers: pip install diffusers, or carry its wheel and that of "
                "importlib_metadata"
            ) from error
        from transformers import AutoTokenizer

        self._constants: dict[str, int] = clone_module(directory, "config").SPECIAL_TOKENS
        self._prompts = clone_module(directory, "utils.prompt_utils")
        self._images = clone_module(directory, "utils.image_utils")
        logging.getLogger("transformers").setLevel(logging.ERROR)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                checkpoint, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise ConfigError(f"{checkpoint}: transformers cannot read its tokenizer: {error}") from error
        self._codec: Any = VQModel.from_pretrained(checkpoint, subfolder="vqvae", local_files_only=True).to(device)
        self._device = device

    def knows(self, tokens: SpecialTokens) -> bool:
        """Whether the ids that the reference has as constants are those of the checkpoint."""
        return all(getattr(tokens, role) == value for role, value in self.ids().items())

    def ids(self) -> dict[str, int]:
        """The reference's constants by role."""
        return {role: self._constants[name] for role, name in _ROLES.items()}

    def drawn_prompt(self, prompt: str) -> tuple[list[int], list[int]]:
        """Ids of a text-to-image prompt, and of what stands in its place for guidance."""
        given, without_text = self._ids(*self._prompts.generate_text_to_image_prompt(prompt))
        return given, without_text

    def edit_prompt(
        self, prompt: str, edit_type: str, images: Sequence[Image.Image]
    ) -> tuple[list[int], list[int], list[int]]:
        """Ids before the answer with everything, without text and without images."""
        given, without_text, _ = self._prompts.generate_image_to_image_prompt(prompt, edit_type)
        (given_ids, without_text_ids), span = self._ids(given, without_text), self._spans(images)
        return _before_last(given_ids, span), _before_last(without_text_ids, span), given_ids

    def question(self, prompt: str, images: Sequence[Image.Image]) -> list[int]:
        """Ids before the answer; the image's newlines once, where the reference's script has them twice."""
        (ids,) = self._ids(self._prompts.generate_multimodal_understanding_prompt(prompt))
        return _before_last(ids, self._spans(images))

    def painting(self, image: Image.Image, width_ratio: float, height_ratio: float, *, is_outside: bool) -> list[int]:
        """The target of an image of which a box, or all around it, is masked."""
        mode = "outpainting" if is_outside else "inpainting"
        with _one_thread(self._device):
            ids, _ = self._images.encode_img_with_paint(
                image, self._codec, mask_h_ratio=height_ratio, mask_w_ratio=width_ratio, mask_mode=mode
            )
        return list(ids)

    def image(self, codes_HW: Tensor) -> Image.Image:
        """The image that codes stand for."""
        height, width = codes_HW.shape
        with torch.no_grad(), _one_thread(self._device):
            image: Image.Image = self._images.decode_vq_to_image(
                codes_HW.reshape(1, -1).to(self._device) + self._constants["image_token_offset"],
                "",
                "",
                height * 16,
                width * 16,
                self._codec,
            )
        return image

    def _spans(self, images: Sequence[Image.Image]) -> list[int]:
        with torch.no_grad(), _one_thread(self._device):
            return [token for image in images for token in self._images.encode_img_with_breaks(image, self._codec)]

    def _ids(self, *texts: str) -> tuple[list[int], ...]:
        return tuple(self._tokenizer(text)["input_ids"] for text in texts)


def _before_last(text_ids: list[int], span: list[int]) -> list[int]:
    return [*text_ids[:-1], *span, text_ids[-1]]


@contextlib.contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, one thread of torch inside."""
    num_threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
