"""Building the token sequences of each task: prompt, input images, and the masked target.

Source: ``inference_t2i.py`` and ``inference_mmu.py`` of the reference, and ``encode_img_with_breaks``. For
understanding the image is laid out once with its newlines; the script inserts them a second time and so loses the
image's last tokens (docs/numerics.md).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimoo_core.errors import RequestError
from dimoo_core.noise import NoiseSource
from dimoo_core.prompts import TEXT_TO_IMAGE_SYSTEM, UNCONDITIONAL_PROMPT, UNDERSTANDING_SYSTEM, chat
from dimoo_core.request import Request, Stream
from dimoo_core.settings import PIXELS_PER_TOKEN, ImageSettings, TextSettings
from dimoo_core.tokenizer import Tokenizer
from dimoo_core.tokens import SpecialTokens


class RequestLayout:
    """Turns prompts and VQ codes into requests, for one tokenizer and its special ids. Safe to share by threads."""

    def __init__(self, tokenizer: Tokenizer, tokens: SpecialTokens) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens

    def text_to_image(self, request_id: str, prompt: str, settings: ImageSettings, noise: NoiseSource) -> Request:
        """A fully masked image: a conditional stream, and an unconditional one if there is guidance.

        Raises:
            RequestError: If the prompt holds a token of the layout.
        """
        rows, columns = settings.height_px // PIXELS_PER_TOKEN, settings.width_px // PIXELS_PER_TOKEN
        codes_HW = torch.full((rows, columns), self._tokens.mask, dtype=torch.int64)
        prompts = [prompt] if settings.cfg_scale == 0 else [prompt, UNCONDITIONAL_PROMPT]
        ids = [self._prompt_ids(chat(TEXT_TO_IMAGE_SYSTEM, text)) for text in prompts]
        return image_request(request_id, ids, with_newlines(codes_HW, self._tokens), settings, noise, self._tokens)

    def understanding(
        self,
        request_id: str,
        prompt: str,
        images: Sequence[Tensor],
        settings: TextSettings,
        noise: NoiseSource,
    ) -> Request:
        """A fully masked answer to a question about images.

        Args:
            request_id: Returned with the result.
            prompt: The question.
            images: VQ codes of each image, (rows, columns) in 0..8191.
            settings: Length, blocks, steps.
            noise: Where randomness comes from.

        Raises:
            RequestError: If the prompt holds a token of the layout.
        """
        text_ids = self._prompt_ids(chat(UNDERSTANDING_SYSTEM, prompt))
        image_ids = [self.image_span(codes_HW) for codes_HW in images]
        prompt_ids = torch.cat([text_ids[:-1], *image_ids, text_ids[-1:]])
        target = torch.full((settings.max_tokens,), self._tokens.mask, dtype=torch.int64)
        return answer_request(request_id, prompt_ids, target, settings, noise, self._tokens)

    def image_span(self, codes_HW: Tensor) -> Tensor:
        """An input image as ids: begin, rows each closed by a newline, end."""
        begin, end = torch.tensor([self._tokens.image_begin]), torch.tensor([self._tokens.image_end])
        return torch.cat((begin, with_newlines(codes_HW + self._tokens.image_offset, self._tokens), end))

    def answer_text(self, token_ids: Sequence[int]) -> str:
        """Text of an answer's tokens."""
        return self._tokenizer.decode(token_ids)

    def _prompt_ids(self, text: str) -> Tensor:
        ids = self._tokenizer.encode(text)
        forbidden = self._tokens.layout_ids | {self._tokens.end_of_text}
        if found := forbidden.intersection(ids):
            name = self._tokenizer.decode([min(found)], skip_special_tokens=False)
            raise RequestError(f"the prompt must not contain {name!r}: the model reads it as part of its own layout")
        return torch.tensor(ids, dtype=torch.int64)


def with_newlines(ids_HW: Tensor, tokens: SpecialTokens) -> Tensor:
    """Rows of ids, each closed by a newline token, as one sequence of ``H * (W + 1)`` ids."""
    newline_H1 = torch.full((ids_HW.shape[0], 1), tokens.newline, dtype=torch.int64, device=ids_HW.device)
    return torch.cat((ids_HW, newline_H1), dim=1).flatten()


def image_request(
    request_id: str,
    prompts: Sequence[Tensor],
    target: Tensor,
    settings: ImageSettings,
    noise: NoiseSource,
    tokens: SpecialTokens,
) -> Request:
    """An image between its begin and end tokens, as an answer to each of the prompts (conditional one first)."""
    begin = torch.tensor([tokens.answer_begin, tokens.image_begin])
    end = torch.tensor([tokens.image_end, tokens.answer_end])
    streams = tuple(Stream(torch.cat((ids, begin)), end) for ids in prompts)
    return Request(request_id=request_id, streams=streams, target=target, settings=settings, noise=noise)


def answer_request(
    request_id: str,
    prompt_ids: Tensor,
    target: Tensor,
    settings: TextSettings,
    noise: NoiseSource,
    tokens: SpecialTokens,
    suffix: Tensor | None = None,
) -> Request:
    """An answer after its begin token; with guidance, a second stream in which all but the answer is masked.

    ``suffix`` defaults to the end-of-answer token.
    """
    prefix = torch.cat((prompt_ids, torch.tensor([tokens.answer_begin])))
    suffix = torch.tensor([tokens.answer_end]) if suffix is None else suffix
    streams = [Stream(prefix, suffix)]
    if settings.cfg_scale > 0:
        streams.append(Stream(torch.full_like(prefix, tokens.mask), torch.full_like(suffix, tokens.mask)))
    return Request(request_id=request_id, streams=tuple(streams), target=target, settings=settings, noise=noise)
