"""Special ids come from the tokenizer, by name; the published ids are a fallback, and guesses are refused."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dimoo_core.config import DIMOO_8B, ModelConfig
from dimoo_core.errors import WeightsError
from dimoo_core.tokenizer import Tokenizer
from dimoo_core.tokens import SpecialTokens, read_special_tokens

NAMES = ("<|mdm_mask|>", "<end-of-line>", "<IMAGE>", "</IMAGE>", "<answer>", "</answer>", "<|endoftext|>")
PUBLISHED = (126336, 126084, 126349, 126350, 126354, 126355, 126081)


@dataclass(frozen=True)
class Table:
    """Some tokens by id."""

    tokens: dict[int, str]

    def token_id(self, token: str) -> int | None:
        return {name: token_id for token_id, name in self.tokens.items()}.get(token)

    def token(self, token_id: int) -> str | None:
        return self.tokens.get(token_id)

    @property
    def num_ids(self) -> int:
        return max(self.tokens) + 1


def config_of(num_embeddings: int, image_token_offset: int | None = None) -> ModelConfig:
    return replace(DIMOO_8B, num_embeddings=num_embeddings, image_token_offset=image_token_offset)


def ids_of(tokens: SpecialTokens) -> tuple[int, ...]:
    return (
        tokens.mask,
        tokens.newline,
        tokens.image_begin,
        tokens.image_end,
        tokens.answer_begin,
        tokens.answer_end,
        tokens.end_of_text,
    )


def test_tokens_are_found_by_name_wherever_their_ids_are() -> None:
    table = Table(dict(enumerate(NAMES, start=40)) | {3: "the"})
    tokens = read_special_tokens(table, config_of(47 + 8192))
    assert ids_of(tokens) == tuple(range(40, 47))
    assert tokens.image_offset == 47
    assert tokens.image_columns == slice(47, 47 + 8192)


def test_the_published_ids_serve_where_the_names_are_others() -> None:
    table = Table({token_id: f"<|reserved_{token_id}|>" for token_id in PUBLISHED})
    tokens = read_special_tokens(table, config_of(134_548))
    assert ids_of(tokens) == PUBLISHED
    assert tokens.image_offset == 126_356


def test_a_name_wins_over_the_published_id() -> None:
    table = Table(dict(zip(PUBLISHED, NAMES, strict=True)) | {126336: "<other>", 200: "<|mdm_mask|>"})
    assert read_special_tokens(table, config_of(134_548)).mask == 200


@pytest.mark.parametrize("token", [None, "plain"])
def test_a_token_that_is_nowhere_is_named(token: str | None) -> None:
    tokens = dict(zip(PUBLISHED, NAMES, strict=True))
    del tokens[126349]
    if token is not None:
        tokens[126349] = token
    message = "the tokenizer has no token '<IMAGE>' for image_begin, nor a special token with id 126349"
    with pytest.raises(WeightsError, match=message):
        read_special_tokens(Table(tokens), config_of(134_548))


def test_an_embedding_may_be_padded_beyond_the_last_code() -> None:
    table = Table(dict(enumerate(NAMES)))
    tokens = read_special_tokens(table, config_of(7 + 8192 + 100))
    assert tokens.image_columns == slice(7, 7 + 8192)
    assert tokens.vocabulary_columns == slice(0, 7 + 8192)


def test_the_config_may_move_the_codes_behind_ids_without_a_token() -> None:
    table = Table(dict(enumerate(NAMES)))
    tokens = read_special_tokens(table, config_of(64 + 8192, image_token_offset=64))
    assert tokens.image_columns == slice(64, 64 + 8192)


@pytest.mark.parametrize(("num_embeddings", "offset"), [(8198, None), (9000, 900), (9000, 6)])
def test_codes_that_do_not_fit_are_refused(num_embeddings: int, offset: int | None) -> None:
    with pytest.raises(WeightsError, match=r"do not fit between the special tokens .* set image_token_offset"):
        read_special_tokens(Table(dict(enumerate(NAMES))), config_of(num_embeddings, offset))


def test_the_codebook_may_have_another_size() -> None:
    tokens = read_special_tokens(Table(dict(enumerate(NAMES))), config_of(7 + 64), num_codes=64)
    assert tokens.image_columns == slice(7, 71)


def test_end_of_text_is_no_part_of_a_layout() -> None:
    tokens = read_special_tokens(Table(dict(enumerate(NAMES))), config_of(7 + 8192))
    assert tokens.layout_ids == frozenset(range(6))


def test_a_tokenizer_recognises_special_tokens_and_adds_none(tiny_checkpoint: Path) -> None:
    tokenizer = Tokenizer(tiny_checkpoint)
    text = "<user>the red boat</user>"
    ids = tokenizer.encode(text)
    assert (ids[0], ids[-1]) == (tokenizer.token_id("<user>"), tokenizer.token_id("</user>"))
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.decode(ids) == "the red boat"


def test_text_of_any_script_survives_the_tokenizer(tiny_checkpoint: Path) -> None:
    tokenizer = Tokenizer(tiny_checkpoint)
    for text in ("", "  two  spaces ", "naïve façade", "你好\n", "🙂"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ids_without_a_token_decode_to_nothing(tiny_checkpoint: Path) -> None:
    tokenizer = Tokenizer(tiny_checkpoint)
    assert tokenizer.token(tokenizer.num_ids) is None
    assert tokenizer.token_id("no such token") is None
    boat = tokenizer.encode("boat")
    assert tokenizer.decode([*boat, tokenizer.num_ids + 5, 8000]) == "boat"


def test_a_directory_without_a_fast_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tokenizer\.json is missing: only fast tokenizers are supported"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["{", "{}", '{"added_tokens": [], "model": {"type": "none"}}'])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(WeightsError, match="holds no readable tokenizer"):
        Tokenizer(tmp_path)
