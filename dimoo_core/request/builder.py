"""Building the token sequences of each task: prompt, input images, and the masked target.

Source: ``inference_t2i.py``, ``inference_i2i.py`` and ``inference_mmu.py`` of the reference, and its
``encode_img_with_breaks``. For understanding the image is placed once with its newlines; the script inserts them a
second time and so loses the image's last tokens (docs/numerics.md).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dimoo_core.errors import RequestError
from dimoo_core.request.noise import NoiseSource
from dimoo_core.request.request import Request, SequenceRole, TokenSequence
from dimoo_core.request.templates import TEXT_TO_IMAGE_SYSTEM, UNCONDITIONAL_PROMPT, UNDERSTANDING_SYSTEM, chat
from dimoo_core.request.tokenizer import Tokenizer
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import PIXELS_PER_TOKEN, ChoiceSettings, ImageSettings, TextSettings


class RequestLayout:
    """Turns prompts and VQ codes into requests, for one tokenizer and its special ids. Safe to share by threads."""

    def __init__(self, tokenizer: Tokenizer, tokens: SpecialTokens) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens

    def text_to_image(
        self,
        request_id: str,
        prompt: str,
        settings: ImageSettings,
        noise: NoiseSource,
        *,
        negative_prompt: str | None = None,
        known_codes: Tensor | None = None,
    ) -> Request:
        """An image as an answer to a prompt: a conditional sequence, and an unconditional one if there is guidance.

        Args:
            prompt: What the image is to show.
            noise: Where randomness comes from.
            negative_prompt: Stands in the unconditional sequence; None is the model's own unconditional prompt.
            known_codes: VQ codes of the image, (rows, columns), -1 where the model is to paint; None paints all of it.

        Raises:
            RequestError: If a prompt holds a token of the layout, or the codes are of another size.
        """
        grid = (settings.height_px // PIXELS_PER_TOKEN, settings.width_px // PIXELS_PER_TOKEN)
        if known_codes is not None and tuple(known_codes.shape) != grid:
            raise RequestError(f"the image to complete has {tuple(known_codes.shape)} codes, the size asked for {grid}")
        cond = self._prompt_ids(chat(TEXT_TO_IMAGE_SYSTEM, prompt))
        uncond = self._prompt_ids(chat(TEXT_TO_IMAGE_SYSTEM, _or_unconditional(negative_prompt)))
        target = self.masked_image(settings) if known_codes is None else self.partly_masked_image(known_codes)
        prompts: dict[SequenceRole, Tensor | None] = {"cond": cond, "uncond": uncond if settings.cfg_scale else None}
        return image_request(request_id, prompts, target, settings, noise, self._tokens)

    def image_to_image(
        self,
        request_id: str,
        system: str,
        prompt: str,
        images: Sequence[Tensor],
        settings: ImageSettings,
        noise: NoiseSource,
        *,
        negative_prompt: str | None = None,
    ) -> Request:
        """A fully masked image that answers a prompt about input images.

        The conditional sequence has prompt and images; guidance by text sets it against the images alone, guidance by
        image against the prompt alone.

        Args:
            system: The task's system prompt.
            images: VQ codes of each input image, (rows, columns).
            negative_prompt: Stands where guidance by text leaves the prompt out; None is the model's own
                unconditional prompt.

        Raises:
            RequestError: If a prompt holds a token of the layout.
        """
        text_ids = self._prompt_ids(chat(system, prompt))
        without_text = self._prompt_ids(chat(system, _or_unconditional(negative_prompt)))
        prompts: dict[SequenceRole, Tensor | None] = {
            "cond": self.with_images(text_ids, images),
            "uncond_text": self.with_images(without_text, images) if settings.cfg_scale else None,
            "uncond_image": text_ids if settings.cfg_image_scale else None,
        }
        return image_request(request_id, prompts, self.masked_image(settings), settings, noise, self._tokens)

    def masked_image(self, settings: ImageSettings) -> Tensor:
        """The target of an image of which nothing is known."""
        rows, columns = settings.height_px // PIXELS_PER_TOKEN, settings.width_px // PIXELS_PER_TOKEN
        return with_newlines(torch.full((rows, columns), self._tokens.mask, dtype=torch.int64), self._tokens)

    def partly_masked_image(self, codes_HW: Tensor) -> Tensor:
        """The target of an image whose codes are known, except where they are -1."""
        ids_HW = (codes_HW + self._tokens.image_offset).masked_fill(codes_HW < 0, self._tokens.mask)
        return with_newlines(ids_HW, self._tokens)

    def with_images(self, text_ids: Tensor, images: Sequence[Tensor]) -> Tensor:
        """Input images placed before the last token of a prompt, the one that closes the user's turn."""
        return torch.cat([text_ids[:-1], *(self.image_span(codes_HW) for codes_HW in images), text_ids[-1:]])

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
            images: VQ codes of each image, (rows, columns) in 0..8191, in the order in which the model sees them.

        Raises:
            RequestError: If the prompt holds a token of the layout.
        """
        prompt_ids = self.with_images(self._prompt_ids(chat(UNDERSTANDING_SYSTEM, prompt)), images)
        target = torch.full((settings.max_tokens,), self._tokens.mask, dtype=torch.int64)
        return answer_request(request_id, prompt_ids, target, settings, noise, self._tokens)

    def choices(
        self,
        request_id: str,
        prompt: str,
        images: Sequence[Tensor],
        answers: Sequence[str],
        settings: ChoiceSettings,
        noise: NoiseSource,
    ) -> Request:
        """A question about images as ``understanding`` has it, with the answers to weigh.

        Raises:
            RequestError: If the prompt or an answer holds a token of the layout, or an answer is too long.
        """
        prompt_ids = self.with_images(self._prompt_ids(chat(UNDERSTANDING_SYSTEM, prompt)), images)
        choices = tuple(tuple(self._prompt_ids(answer).tolist()) for answer in answers)
        longest = max(range(len(choices)), key=lambda index: len(choices[index]))
        length = len(choices[longest]) if settings.max_tokens is None else settings.max_tokens
        if len(choices[longest]) > length:
            raise RequestError(
                f"choice {answers[longest]!r} has {len(choices[longest])} tokens, max_tokens is {length}: "
                f"give max_tokens of at least {len(choices[longest])}"
            )
        target = torch.full((length,), self._tokens.mask, dtype=torch.int64)
        return answer_request(request_id, prompt_ids, target, settings, noise, self._tokens, choices=choices)

    def image_span(self, codes_HW: Tensor) -> Tensor:
        """An input image as ids: begin, rows each closed by a newline, end."""
        begin, end = torch.tensor([self._tokens.image_begin]), torch.tensor([self._tokens.image_end])
        return torch.cat((begin, with_newlines(codes_HW + self._tokens.image_offset, self._tokens), end))

    def answer_text(self, token_ids: Sequence[int]) -> str:
        """Text of an answer's tokens."""
        return self._tokenizer.decode(token_ids)

    def _prompt_ids(self, text: str) -> Tensor:
        ids = self._tokenizer.encode(text)
        columns = self._tokens.image_columns
        forbidden = self._tokens.layout_ids | {self._tokens.end_of_text}
        if found := [each for each in ids if each in forbidden or columns.start <= each < columns.stop]:
            name = self._tokenizer.decode([min(found)], skip_special_tokens=False)
            raise RequestError(f"the prompt must not contain {name!r}: the model reads it as part of its own layout")
        return torch.tensor(ids, dtype=torch.int64)


def _or_unconditional(negative_prompt: str | None) -> str:
    return UNCONDITIONAL_PROMPT if negative_prompt is None else negative_prompt


def num_image_tokens(codes_HW: Tensor) -> int:
    """Length of ``image_span``."""
    rows, columns = codes_HW.shape
    return rows * (columns + 1) + 2


def with_newlines(ids_HW: Tensor, tokens: SpecialTokens) -> Tensor:
    """Rows of ids, each closed by a newline token, as one sequence of ``H * (W + 1)`` ids."""
    newline_H1 = torch.full((ids_HW.shape[0], 1), tokens.newline, dtype=torch.int64, device=ids_HW.device)
    return torch.cat((ids_HW, newline_H1), dim=1).flatten()


def image_request(
    request_id: str,
    prompts: Mapping[SequenceRole, Tensor | None],
    target: Tensor,
    settings: ImageSettings,
    noise: NoiseSource,
    tokens: SpecialTokens,
) -> Request:
    """An image between its begin and end tokens, as an answer to a prompt and, for guidance, to others in its place."""
    begin = torch.tensor([tokens.answer_begin, tokens.image_begin])
    end = torch.tensor([tokens.image_end, tokens.answer_end])
    sequences = tuple(
        TokenSequence(torch.cat((ids, begin)), end, role) for role, ids in prompts.items() if ids is not None
    )
    return Request(request_id=request_id, sequences=sequences, target=target, settings=settings, noise=noise)


def answer_request(
    request_id: str,
    prompt_ids: Tensor,
    target: Tensor,
    settings: TextSettings | ChoiceSettings,
    noise: NoiseSource,
    tokens: SpecialTokens,
    suffix: Tensor | None = None,
    choices: tuple[tuple[int, ...], ...] = (),
) -> Request:
    """An answer after its begin token; with guidance, a second sequence in which all but the answer is masked.

    ``suffix`` defaults to the end-of-answer token.
    """
    prefix = torch.cat((prompt_ids, torch.tensor([tokens.answer_begin])))
    suffix = torch.tensor([tokens.answer_end]) if suffix is None else suffix
    sequences = [TokenSequence(prefix, suffix)]
    if settings.cfg_scale > 0:
        sequences.append(
            TokenSequence(torch.full_like(prefix, tokens.mask), torch.full_like(suffix, tokens.mask), "uncond")
        )
    return Request(
        request_id=request_id,
        sequences=tuple(sequences),
        target=target,
        settings=settings,
        noise=noise,
        choices=choices,
    )
