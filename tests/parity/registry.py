"""Which check belongs to which kind of golden. A new kind is one module and one line here."""

from collections.abc import Callable

from tests.parity import (
    cached_forward,
    codec,
    edit_type,
    forward,
    image,
    layout,
    painting,
    preprocess,
    sampling,
    text,
    tokenizer,
    wrong_input,
)
from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import Comparison, Golden

Check = Callable[[Golden, Comparison, Checkpoints], None]
"""Raises ``Mismatch`` at the first difference, ``Unsupported`` if the case needs what does not exist yet."""

CHECKS: dict[str, Check] = {
    "cached_forward": cached_forward.check,
    "errors": wrong_input.check,
    "forward": forward.check_forward,
    "forward_padding_quirk": forward.check_padding_quirk,
    "i2i": image.check,
    "layout_full_i2i": edit_type.check_full,
    "layout_full_mmu": layout.check_full_understanding,
    "layout_i2i": edit_type.check,
    "layout_mmu": layout.check_understanding,
    "layout_t2i": layout.check_text_to_image,
    "paint": painting.check,
    "preprocess": preprocess.check,
    "sampling": sampling.check,
    "t2i": image.check,
    "text": text.check,
    "tokenizer": tokenizer.check,
    "vq": codec.check,
}

KINDS = sorted(CHECKS)
