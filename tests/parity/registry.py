"""Which check belongs to which kind of golden. A new kind is one module and one line here."""

from collections.abc import Callable

from tests.parity import cached_forward, codec, forward, image, layout, preprocess, sampling, text, tokenizer
from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import Comparison, Golden

Check = Callable[[Golden, Comparison, Checkpoints], None]
"""Raises ``Mismatch`` at the first difference, ``Unsupported`` if the case needs what does not exist yet."""

CHECKS: dict[str, Check] = {
    "cached_forward": cached_forward.check,
    "forward": forward.check_forward,
    "forward_padding_quirk": forward.check_padding_quirk,
    "i2i": image.check,
    "layout_full_mmu": layout.check_full_understanding,
    "layout_mmu": layout.check_understanding,
    "layout_t2i": layout.check_text_to_image,
    "preprocess": preprocess.check,
    "sampling": sampling.check,
    "t2i": image.check,
    "text": text.check,
    "tokenizer": tokenizer.check,
    "vq": codec.check,
}

NOT_SUPPORTED: dict[str, str] = {
    "errors": "what the reference does with wrong input, for information",
    "layout_full_i2i": "image to image does not exist yet",
    "layout_i2i": "image to image does not exist yet",
    "paint": "in- and outpainting layouts do not exist yet",
}
"""Known kinds without a check, and why."""

KINDS = sorted(CHECKS.keys() | NOT_SUPPORTED.keys())
