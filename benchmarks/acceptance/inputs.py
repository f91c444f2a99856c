"""What goes into both implementations: ids as the checkpoint has them, input images as codes, whole sequences."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.acceptance.row import PAINTED_SHARES, Row, input_images
from benchmarks.reference_inputs import ReferenceInputs
from dimoo_core.checkpoint.check import check_checkpoint
from dimoo_core.checkpoint.weights import load_codec
from dimoo_core.request.builder import RequestLayout
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import Request, SequenceRole
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import ImageSettings

_CPU = torch.device("cpu")
_NOT_SPECIAL = ("image_offset", "num_codes", "num_ids")
_OF_PROMPTS = ("<system>", "</system>", "<user>", "</user>", "<uncondition>")


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceCheck:
    """A row's sequences as the reference lays them out, against the engine's.

    ``is_equal`` is about everything but the codes of images, which come out of a network; ``equal_codes`` is about
    those, None where there are none.
    """

    is_equal: bool
    equal_codes: float | None
    num_codes: int


class Inputs:
    """Everything of a checkpoint but the weights of its transformer."""

    def __init__(self, checkpoint: Path, device: torch.device, input_size: tuple[int, int]) -> None:
        self.device = device
        found = check_checkpoint(checkpoint)
        self.config = found.config
        self.tokenizer = found.tokenizer
        self.tokens = found.tokens
        self.num_parameters = found.num_parameters
        self.codec = load_codec(checkpoint, device=device, max_batch=1)
        self.layout = RequestLayout(found.tokenizer, found.tokens)
        self._offsets = found.offsets
        self._input_size = input_size
        self._codes: dict[str, list[Tensor]] = {}

    def images(self, row: Row) -> list[Image.Image]:
        """The row's input images."""
        return input_images(row, self._input_size)

    def codes(self, row: Row) -> list[Tensor]:
        """Their codes by the engine's codec, which both implementations are given."""
        if row.name not in self._codes:
            self._codes[row.name] = self.codec.encode(self.images(row))
        return self._codes[row.name]

    def request(self, row: Row) -> Request:
        """The row's request, for its sequences and its cost."""
        return row.request(self.layout, self.codes(row), SeededNoise(row.seed, _CPU))

    def ids(self) -> dict[str, object]:
        """The ids that were found, what every source says of the first code's, and what the tokenizer calls them."""
        first, last = self.tokens.image_offset, self.tokens.image_offset + self.tokens.num_codes - 1
        special = {role: value for role, value in asdict(self.tokens).items() if role not in _NOT_SPECIAL}
        return {
            "special": {role: {"id": value, "token": self.tokenizer.token(value)} for role, value in special.items()},
            "prompts": {name: self.tokenizer.token_id(name) for name in _OF_PROMPTS},
            "image_offset": first,
            "num_codes": self.tokens.num_codes,
            "embedding_rows": self.config.num_embeddings,
            "reference_offset": self.config.num_embeddings - self.tokens.num_codes,
            "offsets": asdict(self._offsets),
            "offsets_in_words": self._offsets.words(),
            "first_code_token": self.tokenizer.token(first),
            "last_code_token": self.tokenizer.token(last),
        }

    def check(self, row: Row, reference: ReferenceInputs) -> SequenceCheck:
        """Lay the row out by the reference's functions, and compare."""
        request = self.request(row)
        theirs = reference_sequences(row, self.images(row), reference, self.tokens)
        ours = {sequence.role: sequence.around(request.target).tolist() for sequence in request.sequences}
        return compare_sequences(ours, theirs, self.tokens)


def reference_sequences(
    row: Row, images: Sequence[Image.Image], reference: ReferenceInputs, tokens: SpecialTokens
) -> dict[SequenceRole, list[int]]:
    """Whole sequences by role, put together as the reference's scripts do.

    Source: ``inference_t2i.py``, ``inference_i2i.py``, ``inference_mmu.py``.
    """
    settings = row.settings
    if not isinstance(settings, ImageSettings):
        answer = [tokens.answer_begin, *[tokens.mask] * settings.max_tokens, tokens.answer_end]
        return {"cond": reference.question(row.prompt, images) + answer}
    if row.is_painting:
        target = reference.painting(images[0], *PAINTED_SHARES, is_outside=row.is_outside)
    else:
        line = [tokens.mask] * (settings.width_px // 16) + [tokens.newline]
        target = line * (settings.height_px // 16)
    answer = [tokens.answer_begin, tokens.image_begin, *target, tokens.image_end, tokens.answer_end]
    if row.edit_type is None:
        cond, uncond = reference.drawn_prompt(row.prompt)
        return {"cond": cond + answer, "uncond": uncond + answer}
    given, without_text, without_images = reference.edit_prompt(row.prompt, row.edit_type, images)
    return {"cond": given + answer, "uncond_text": without_text + answer, "uncond_image": without_images + answer}


def compare_sequences(
    ours: dict[SequenceRole, list[int]], theirs: dict[SequenceRole, list[int]], tokens: SpecialTokens
) -> SequenceCheck:
    """Compare sequences stream by stream."""
    is_equal, num_codes, num_equal_codes = ours.keys() == theirs.keys(), 0, 0
    for role in ours.keys() & theirs.keys():
        if len(ours[role]) != len(theirs[role]):
            is_equal = False
            continue
        for our_id, their_id in zip(ours[role], theirs[role], strict=True):
            if min(our_id, their_id) >= tokens.image_offset:
                num_codes += 1
                num_equal_codes += our_id == their_id
            elif our_id != their_id:
                is_equal = False
    share = num_equal_codes / num_codes if num_codes else None
    return SequenceCheck(is_equal=is_equal, equal_codes=share, num_codes=num_codes)
