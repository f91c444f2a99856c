"""The ids with a meaning beyond text, read once from a checkpoint's tokenizer and config."""

from dataclasses import dataclass
from typing import Protocol

from dimoo_core.config import ModelConfig
from dimoo_core.errors import WeightsError

NUM_VQ_CODES = 8192
"""Entries of the image codebook."""


class TokenTable(Protocol):
    """What is asked of a tokenizer here."""

    def token_id(self, token: str) -> int | None:
        """Id of a token by its exact string."""

    def token(self, token_id: int) -> str | None:
        """String of a token id."""

    @property
    def num_ids(self) -> int:
        """One more than the highest id that has a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """Ids that lay out a sequence. VQ code ``c`` is the id ``image_offset + c``."""

    mask: int
    newline: int
    image_begin: int
    image_end: int
    answer_begin: int
    answer_end: int
    end_of_text: int
    image_offset: int
    num_codes: int = NUM_VQ_CODES

    @property
    def layout_ids(self) -> frozenset[int]:
        """Ids that a prompt must not contain, since they would be taken for parts of the layout."""
        return frozenset(
            (self.mask, self.newline, self.image_begin, self.image_end, self.answer_begin, self.answer_end)
        )

    @property
    def image_columns(self) -> slice:
        """Vocabulary columns of the VQ codes."""
        return slice(self.image_offset, self.image_offset + self.num_codes)

    @property
    def vocabulary_columns(self) -> slice:
        """Every column with a meaning: text, special tokens and VQ codes, without padding rows."""
        return slice(0, self.image_offset + self.num_codes)


_NAMES = {
    "mask": "<|mdm_mask|>",
    "newline": "<end-of-line>",
    "image_begin": "<IMAGE>",
    "image_end": "</IMAGE>",
    "answer_begin": "<answer>",
    "answer_end": "</answer>",
    "end_of_text": "<|endoftext|>",
}
_PUBLISHED_IDS = {
    "mask": 126336,
    "newline": 126084,
    "image_begin": 126349,
    "image_end": 126350,
    "answer_begin": 126354,
    "answer_end": 126355,
    "end_of_text": 126081,
}
"""Ids of the published checkpoint, for a tokenizer that has the id under another string.

Source: ``SPECIAL_TOKENS`` of the reference's ``config.py`` and the early stop of its text generator.
"""


def read_special_tokens(table: TokenTable, config: ModelConfig, *, num_codes: int = NUM_VQ_CODES) -> SpecialTokens:
    """Look up each special token by its string, else by the published id if the tokenizer marks it as no plain text.

    The image offset is ``image_token_offset`` of the config if given, else the first id after the tokenizer's last.

    Raises:
        WeightsError: If a token cannot be found, or the VQ codes do not fit into the embedding.
    """
    ids: dict[str, int] = {}
    for role, name in _NAMES.items():
        found = table.token_id(name)
        ids[role] = found if found is not None else _published_id(table, role, name)
    offset = config.image_token_offset if config.image_token_offset is not None else table.num_ids
    if offset < max(ids.values()) + 1 or offset + num_codes > config.num_embeddings:
        raise WeightsError(
            f"VQ codes at ids {offset} to {offset + num_codes - 1} do not fit between the special tokens (up to "
            f"{max(ids.values())}) and the {config.num_embeddings} rows of the embedding: set image_token_offset in "
            "config.json"
        )
    return SpecialTokens(**ids, image_offset=offset, num_codes=num_codes)


def _published_id(table: TokenTable, role: str, name: str) -> int:
    token_id = _PUBLISHED_IDS[role]
    token = table.token(token_id)
    if token is None or not (token.startswith("<") and token.endswith(">")):
        raise WeightsError(f"the tokenizer has no token {name!r} for {role}, nor a special token with id {token_id}")
    return token_id
