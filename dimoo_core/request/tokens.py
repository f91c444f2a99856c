"""The ids with a meaning beyond text, read once from a checkpoint's tokenizer, config and tensors, and held together.

All sources of an id must agree. Nothing is guessed: a checkpoint that
contradicts itself, or has no source, is refused with every value that was found.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from dimoo_core.errors import WeightsError
from dimoo_core.model_config import ModelConfig
from dimoo_core.request.tokenizer import Tokenizer

NUM_VQ_CODES = 8192
"""Entries of the image codebook."""


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
    num_ids: int = 0  # one more than the tokenizer's last id: it may have tokens after the codes

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
        return slice(0, max(self.image_offset + self.num_codes, self.num_ids))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOffsets:
    """A checkpoint's sources of the id of VQ code 0; None where one is missing."""

    key: int | None  # image_token_offset of config.json
    listed: tuple[int, ...]  # where the tokenizer lists as many codes as there are; several: it lists other things too
    published: int | None  # of the published checkpoint, if the special tokens have its ids
    num_ids: int  # one more than the tokenizer's last id
    num_rows: int  # of the embedding
    num_codes: int

    def words(self) -> str:
        """In one line; what the rows leave for codes is reported, and decides nothing."""
        told = {
            "image_token_offset in config.json": self.key,
            "codes listed by the tokenizer": " or ".join(map(str, self.listed)) or None,
            "published ids": self.published,
        }
        parts = [f"{name}: {'none' if value is None else value}" for name, value in told.items()]
        rest = f"{self.num_rows} rows less {self.num_codes} codes: {self.num_rows - self.num_codes}"
        return ", ".join([*parts, f"after the tokenizer's last id: {self.num_ids}", rest])


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
_PUBLISHED_OFFSET = 126_356
_OPTIONAL_NAMES = ("<uncondition>", "<system>", "</system>", "<user>", "</user>", "<|startoftext|>")
"""Special tokens that prompts are written with; a tokenizer without one takes it for text."""
_PUBLISHED_BY_NAME = {name: _PUBLISHED_IDS[role] for role, name in _NAMES.items()} | {"<uncondition>": 126351}
_COUNTER = re.compile("[0-9]+")
_FIX = "set image_token_offset in config.json to the id of VQ code 0"


def read_special_tokens(table: Tokenizer, config: ModelConfig, *, num_codes: int = NUM_VQ_CODES) -> SpecialTokens:
    """Find each special token and the first VQ code, and refuse what contradicts itself.

    A special token is found by its string, else by its published id if the tokenizer marks that as no plain text. The
    id of code 0 is that of ``image_offsets``, if all that it has agree; where it has nothing, the first id after the
    tokenizer's last, if the embedding ends with the codes.
    """
    ids = _special_ids(table)
    offsets = image_offsets(table, config, num_codes=num_codes)
    offset = _agreed_offset(offsets)
    _check_block(table, offsets, offset, _reserved(table, ids))
    return SpecialTokens(**ids, image_offset=offset, num_codes=num_codes, num_ids=table.num_ids)


def image_offsets(table: Tokenizer, config: ModelConfig, *, num_codes: int = NUM_VQ_CODES) -> ImageOffsets:
    """The id of VQ code 0 by tokenizer, config and tensors.

    Raises:
        WeightsError: A special token cannot be found, or some have their published ids and others have not.
    """
    ids = _special_ids(table)
    return ImageOffsets(
        key=config.image_token_offset,
        listed=_listed(table, _reserved(table, ids), num_codes),
        published=_PUBLISHED_OFFSET if ids == _PUBLISHED_IDS else None,
        num_ids=table.num_ids,
        num_rows=config.num_embeddings,
        num_codes=num_codes,
    )


def _special_ids(table: Tokenizer) -> dict[str, int]:
    """The id of each role."""
    found = {name: token_id for name in _PUBLISHED_BY_NAME if (token_id := table.token_id(name)) is not None}
    moved = {name: token_id for name, token_id in found.items() if token_id != _PUBLISHED_BY_NAME[name]}
    if moved and len(moved) < len(found):
        kept = [name for name in found if name not in moved]
        told = ", ".join(f"{name!r} at {token_id}, not {_PUBLISHED_BY_NAME[name]}" for name, token_id in moved.items())
        raise WeightsError(
            f"special tokens contradict each other: the tokenizer has {told}, while {', '.join(map(repr, kept))} "
            f"{'has its published id' if len(kept) == 1 else 'have their published ids'}: correct the tokenizer's files"
        )
    ids = {role: found[name] for role, name in _NAMES.items() if name in found}
    for role in _NAMES.keys() - ids.keys():
        token = table.token(_PUBLISHED_IDS[role])
        if moved or token is None or not (token.startswith("<") and token.endswith(">")):
            among = ", nor do the others have their published ids" if moved else ""
            raise WeightsError(
                f"the tokenizer has no token {_NAMES[role]!r} for {role}, nor a special token with id "
                f"{_PUBLISHED_IDS[role]}{among}"
            )
        ids[role] = _PUBLISHED_IDS[role]
    return ids


def _reserved(table: Tokenizer, ids: Mapping[str, int]) -> dict[int, str]:
    """Special ids, which are no codes, and what they are called."""
    optional = {table.token_id(name): name for name in _OPTIONAL_NAMES}
    found = {token_id: name for token_id, name in optional.items() if token_id is not None}
    return found | {token_id: _NAMES[role] for role, token_id in ids.items()}


def _listed(table: Tokenizer, reserved: Mapping[int, str], num_codes: int) -> tuple[int, ...]:
    """Where ``num_codes`` ids in succession are called alike but for a counter; else where added tokens end the table.

    Source: such names are what a tokenizer gets when its codes are added to it one by one.
    """
    numbered = [start for start, length in _numbered_runs(table, reserved) if length >= num_codes]
    if numbered:
        return tuple(numbered)
    first = max(reserved) + 1
    return (first,) if all(table.is_added(token_id) for token_id in range(first, first + num_codes)) else ()


def _numbered_runs(table: Tokenizer, reserved: Mapping[int, str]) -> Iterator[tuple[int, int]]:
    """First id and length of each run of ids whose strings differ only in a counter that rises by one."""
    start, around = 0, None
    strings = (None if each in reserved else table.token(each) for each in range(table.num_ids + 1))
    for before, (first, second) in enumerate(pairwise(strings)):
        found = None if first is None or second is None else _around_counter(first, second)
        if found is None or found != around:
            if around is not None:
                yield start, before - start + 1
            start, around = before, found


def _around_counter(before: str, after: str) -> tuple[str, str] | None:
    """The text around the counter by which the second string is one more than the first; None if there is none."""
    for match in _COUNTER.finditer(before):
        prefix, suffix = before[: match.start()], before[match.end() :]
        middle = after[len(prefix) : len(after) - len(suffix)] if after.startswith(prefix) else ""
        if after != prefix + middle + suffix or _COUNTER.fullmatch(middle) is None:
            continue
        if int(middle) == int(match[0]) + 1:
            return prefix, suffix
    return None


def _agreed_offset(offsets: ImageOffsets) -> int:
    """The one value that everything has."""
    given = {value for value in (offsets.key, offsets.published) if value is not None}
    candidates = given & set(offsets.listed) or given | set(offsets.listed)
    if len(candidates) == 1 and len(given) < 2:
        return candidates.pop()
    if candidates:
        raise WeightsError(f"the id of VQ code 0 is not clear ({offsets.words()}): {_FIX}, or correct what is wrong")
    if offsets.num_rows != offsets.num_ids + offsets.num_codes:
        raise WeightsError(f"the id of VQ code 0 is not known ({offsets.words()}): {_FIX}")
    return offsets.num_ids


def _check_block(table: Tokenizer, offsets: ImageOffsets, offset: int, reserved: Mapping[int, str]) -> None:
    """Refuse codes that do not fit into the embedding, meet a special token, or have tokens in part."""
    last = offset + offsets.num_codes - 1
    block = f"VQ codes at ids {offset} to {last}"
    if max(last + 1, offsets.num_ids) > offsets.num_rows:
        what = block if last >= offsets.num_rows else f"the tokenizer's ids up to {offsets.num_ids - 1}"
        raise WeightsError(
            f"{what} do not fit the {offsets.num_rows} rows of the embedding ({offsets.words()}): {_FIX}"
        )
    if inside := sorted(token_id for token_id in reserved if offset <= token_id <= last):
        raise WeightsError(f"{block} would hold the special token {reserved[inside[0]]!r}, {inside[0]}: {_FIX}")
    named = [token_id for token_id in range(offset, last + 1) if table.token(token_id) is not None]
    if named and len(named) < offsets.num_codes:
        raise WeightsError(
            f"{block} have tokens in part: {len(named)}, the first is {named[0]}, {table.token(named[0])!r}: {_FIX}"
        )
    if named and offset not in offsets.listed and not all(map(table.is_added, named)):
        plain = next(token_id for token_id in named if not table.is_added(token_id))
        raise WeightsError(f"{block} would hold a token of text, {plain}, {table.token(plain)!r}: {_FIX}")
