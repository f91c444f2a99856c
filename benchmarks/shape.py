"""Models to measure, as shapes without weights: the published one, and small ones that run anywhere."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from dimoo_core.model_config import DIMOO_8B, ModelConfig
from dimoo_core.request.tokenizer import Tokenizer
from dimoo_core.request.tokens import SpecialTokens, read_special_tokens

_WORD = re.compile(r"</?\w+>|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An architecture and the ids that lay out its sequences."""

    name: str
    config: ModelConfig
    tokens: SpecialTokens
    num_text_ids: int  # ids 0 to this are plain text

    def tokenizer(self) -> Tokenizer:
        """A stand-in that gives texts about as many tokens as a real tokenizer does."""
        return WordTokenizer(self.num_text_ids)


class WordTokenizer(Tokenizer):
    """One id for each word, tag or punctuation mark; needs no files and knows no way back."""

    def __init__(self, num_text_ids: int) -> None:
        self._num_text_ids = num_text_ids

    def encode(self, text: str) -> list[int]:
        """Equal words have equal ids."""
        return [crc32(word.encode()) % self._num_text_ids for word in _WORD.findall(text)]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The ids themselves, for error messages."""
        return " ".join(map(str, ids))


class _PublishedIds:
    """A token table in which every role falls back to the id of the published checkpoint."""

    num_ids = 0

    def token_id(self, token: str) -> int | None:
        return None

    def token(self, token_id: int) -> str | None:
        return f"<{token_id}>"

    def is_added(self, token_id: int) -> bool:
        return True


EIGHT_B = Shape(
    name="8b",
    config=DIMOO_8B,
    tokens=read_special_tokens(_PublishedIds(), DIMOO_8B),
    num_text_ids=126_080,
)


def _small_shape(name: str, config: ModelConfig, num_codes: int) -> Shape:
    """Text ids first, then the special ones, then the codes, up to the end of the embedding."""
    offset = config.num_embeddings - num_codes
    tokens = SpecialTokens(
        mask=offset - 1,
        newline=offset - 2,
        image_begin=offset - 3,
        image_end=offset - 4,
        answer_begin=offset - 5,
        answer_end=offset - 6,
        end_of_text=offset - 7,
        image_offset=offset,
        num_codes=num_codes,
    )
    return Shape(name=name, config=config, tokens=tokens, num_text_ids=offset - 7)


TINY = _small_shape(
    "tiny",
    ModelConfig(hidden_size=64, num_heads=4, num_kv_heads=4, num_layers=3, mlp_size=160, num_embeddings=340),
    num_codes=80,
)
SMALL = _small_shape(
    "small",
    ModelConfig(hidden_size=256, num_heads=4, num_kv_heads=4, num_layers=4, mlp_size=768, num_embeddings=3072),
    num_codes=1024,
)
PROPORTIONAL = _small_shape(
    "proportional",
    ModelConfig(hidden_size=256, num_heads=4, num_kv_heads=4, num_layers=9, mlp_size=768, num_embeddings=3072),
    num_codes=192,
)
"""As in the published model, 6 to 7% of the arithmetic in the head, a sixteenth of whose columns are VQ codes."""

SHAPES = {shape.name: shape for shape in (EIGHT_B, PROPORTIONAL, SMALL, TINY)}
