"""Special ids and the id of VQ code 0: what says one must agree with what else does, and guesses are refused."""

import itertools
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.errors import WeightsError
from dimoo_core.model_config import DIMOO_8B, ModelConfig
from dimoo_core.request.tokenizer import Tokenizer
from dimoo_core.request.tokens import SpecialTokens, image_offsets, read_special_tokens

NAMES = ("<|mdm_mask|>", "<end-of-line>", "<IMAGE>", "</IMAGE>", "<answer>", "</answer>", "<|endoftext|>")
PUBLISHED = (126336, 126084, 126349, 126350, 126354, 126355, 126081)
NUM_CODES = 64
"""Of most tables here, so that a run of numbered tokens is short to write down."""


@dataclass(frozen=True)
class Table:
    """Some tokens by id; those of ``text`` are no added ones."""

    tokens: dict[int, str]
    text: frozenset[int] = field(default_factory=frozenset)

    def token_id(self, token: str) -> int | None:
        return {name: token_id for token_id, name in self.tokens.items()}.get(token)

    def token(self, token_id: int) -> str | None:
        return self.tokens.get(token_id)

    def is_added(self, token_id: int) -> bool:
        return token_id in self.tokens and token_id not in self.text

    @property
    def num_ids(self) -> int:
        return max(self.tokens) + 1


AT_PUBLISHED = dict(zip(PUBLISHED, NAMES, strict=True))
AT_FORTY = dict(enumerate(NAMES, start=40))


def config_of(num_embeddings: int, image_token_offset: int | None = None) -> ModelConfig:
    return replace(DIMOO_8B, num_embeddings=num_embeddings, image_token_offset=image_token_offset)


def read(tokens: dict[int, str], num_embeddings: int, key: int | None = None, **options: Any) -> SpecialTokens:
    return read_special_tokens(Table(tokens, **options), config_of(num_embeddings, key), num_codes=NUM_CODES)


def numbered(first: int, num_codes: int = NUM_CODES, name: str = "<|image_{}|>") -> dict[int, str]:
    return {first + code: name.format(code) for code in range(num_codes)}


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
    tokens = read_special_tokens(Table(AT_FORTY | {3: "the"}), config_of(47 + 8192))
    assert ids_of(tokens) == tuple(range(40, 47))
    assert tokens.image_offset == 47
    assert tokens.image_columns == slice(47, 47 + 8192)


def test_the_published_ids_serve_where_the_names_are_others() -> None:
    table = Table({token_id: f"<|reserved_{token_id}|>" for token_id in PUBLISHED})
    tokens = read_special_tokens(table, config_of(134_548))
    assert ids_of(tokens) == PUBLISHED
    assert tokens.image_offset == 126_356


@pytest.mark.parametrize("moved", [*NAMES, "<uncondition>"])
def test_a_name_away_from_its_published_id_is_refused_where_the_others_have_theirs(moved: str) -> None:
    tokens = {token_id: name for token_id, name in AT_PUBLISHED.items() if name != moved} | {200: moved}
    with pytest.raises(
        WeightsError, match=rf"contradict each other: .* {moved!r} at 200, not 126\d+, while '<".replace("|", r"\|")
    ):
        read(tokens, 134_548)


def test_two_names_that_have_changed_places_are_refused() -> None:
    tokens = AT_PUBLISHED | {126349: "</IMAGE>", 126350: "<IMAGE>"}
    with pytest.raises(WeightsError, match="'<IMAGE>' at 126350, not 126349, '</IMAGE>' at 126349, not 126350"):
        read(tokens, 134_548)


@pytest.mark.parametrize("token", [None, "plain"])
def test_a_token_that_is_nowhere_is_named(token: str | None) -> None:
    tokens = {token_id: name for token_id, name in AT_PUBLISHED.items() if name != "<IMAGE>"}
    if token is not None:
        tokens[126349] = token
    message = "the tokenizer has no token '<IMAGE>' for image_begin, nor a special token with id 126349"
    with pytest.raises(WeightsError, match=message):
        read(tokens, 134_548)


def test_a_published_id_says_nothing_where_the_other_tokens_are_elsewhere() -> None:
    tokens = {token_id: name for token_id, name in AT_FORTY.items() if name != "<IMAGE>"} | {126349: "<other>"}
    with pytest.raises(WeightsError, match=r"no token '<IMAGE>' .* nor do the others have their published ids"):
        read(tokens, 134_548)


def test_columns_end_with_the_last_id_that_has_a_meaning() -> None:
    assert read(AT_FORTY, 47 + 64 + 100, key=47).vocabulary_columns == slice(0, 47 + 64)
    followed = AT_FORTY | numbered(47) | {111: "<tool>", 112: "<end>"}
    assert read(followed, 47 + 64 + 100).vocabulary_columns == slice(0, 113)


def test_the_config_may_move_the_codes_behind_ids_without_a_token() -> None:
    assert read(AT_FORTY, 64 + 64, key=64).image_columns == slice(64, 128)


@pytest.mark.parametrize("base", [AT_PUBLISHED, AT_FORTY], ids=["published", "others"])
@pytest.mark.parametrize("before", [0, 5], ids=["", "tokens-before"])
@pytest.mark.parametrize("after", [0, 3], ids=["", "tokens-after"])
@pytest.mark.parametrize("padded", [0, 44], ids=["", "padded"])
@pytest.mark.parametrize("names", [None, "<|image_{}|>", "<img {}/64>", "{:05d}", "spelt"])
@pytest.mark.parametrize("keyed", [None, "right", "wrong"])
def test_every_combination_is_right_or_refused_with_what_was_found(
    base: dict[int, str], before: int, after: int, padded: int, names: str | None, keyed: str | None
) -> None:
    """What each source says is written down here; that alone is taken, and all of it is told where it differs."""
    offset = max(base) + 1 + before
    tokens = base | {offset - 1 - each: f"<{'more' * (each + 1)}>" for each in range(before)}
    if names == "spelt":  # no counter: as words
        tokens |= {offset + code: "<" + "ab"[code % 2] * (code // 2 + 1) + ">" for code in range(NUM_CODES)}
    elif names is not None:
        tokens |= numbered(offset, name=names)
    if names is not None:
        tokens |= {offset + NUM_CODES + each: f"<{'later' * (each + 1)}>" for each in range(after)}
    num_rows = offset + NUM_CODES + padded + (after if names is not None else 0)
    key = {None: None, "right": offset, "wrong": offset + 1}[keyed]

    is_published = base is AT_PUBLISHED
    says = {
        "key": key,
        "listed": None if names is None else offset if names != "spelt" else max(base) + 1,
        "published": 126_356 if is_published else None,
    }
    values = {value for value in says.values() if value is not None}
    expected: int | None = None
    if len(values) == 1:
        expected = values.pop()
        named = {each for each in range(expected, expected + NUM_CODES) if each in tokens}
        if len(named) not in (0, NUM_CODES) or expected + NUM_CODES > num_rows:
            expected = None
    elif not values and num_rows == max(tokens) + 1 + NUM_CODES:
        expected = max(tokens) + 1
    if expected is not None:
        assert read(tokens, num_rows, key).image_offset == expected
        return
    with pytest.raises(WeightsError, match="image_token_offset") as refused:
        read(tokens, num_rows, key)
    assert all(str(value) in str(refused.value) for value in values)


@pytest.mark.parametrize(
    ("tokens", "key", "words"),
    [
        (AT_PUBLISHED, 126_357, ("config.json: 126357", "published ids: 126356")),
        (AT_FORTY | numbered(47), 48, ("config.json: 48", "listed by the tokenizer: 47")),
        (AT_PUBLISHED | {126_356: "<more>"} | numbered(126_357), None, ("tokenizer: 126357", "published ids: 126356")),
    ],
    ids=["key-published", "key-listed", "listed-published"],
)
def test_each_pair_that_contradicts_is_refused_with_both_values(
    tokens: dict[int, str], key: int | None, words: tuple[str, str]
) -> None:
    with pytest.raises(WeightsError, match="the id of VQ code 0 is not clear") as refused:
        read(tokens, 134_548, key)
    assert all(each in str(refused.value) for each in (*words, "set image_token_offset in config.json"))


def test_what_the_rows_leave_is_told_and_decides_nothing() -> None:
    offsets = image_offsets(Table(AT_PUBLISHED), config_of(134_592))
    assert "134592 rows less 8192 codes: 126400" in offsets.words()
    assert read_special_tokens(Table(AT_PUBLISHED), config_of(134_592)).image_offset == 126_356


def test_two_rows_of_numbered_tokens_need_another_word() -> None:
    tokens = AT_FORTY | numbered(47, name="<sound{}>") | numbered(111)
    with pytest.raises(WeightsError, match="listed by the tokenizer: 47 or 111"):
        read(tokens, 175)
    assert read(tokens, 175, key=111).image_offset == 111


def test_special_tokens_that_are_called_by_their_number_are_no_codes() -> None:
    tokens = {token_id: f"<|reserved_{token_id}|>" for token_id in range(126_081, 126_356 + 8192)}
    assert read_special_tokens(Table(tokens), config_of(134_548)).image_offset == 126_356


@pytest.mark.parametrize(
    ("tokens", "key", "text", "words"),
    [
        (AT_FORTY, 30, (), "would hold the special token '<|mdm_mask|>', 40"),
        (AT_FORTY | {300: "<system>"}, 290, (), "would hold the special token '<system>', 300"),
        (AT_FORTY, 937, (), r"VQ codes at ids 937 to 1000 do not fit the 1000 rows"),
        (AT_FORTY | {1000: "<pad2>"}, 47, (), r"the tokenizer's ids up to 1000 do not fit the 1000 rows"),
        (AT_FORTY | {60: "<tool>"}, 47, (), "have tokens in part: 1, the first is 60, '<tool>'"),
        (AT_FORTY | dict.fromkeys(range(100, 164), "word"), 100, range(100, 164), "a token of text, 100, 'word'"),
    ],
)
def test_codes_are_refused_where_they_cannot_be(
    tokens: dict[int, str], key: int, text: range | tuple[()], words: str
) -> None:
    with pytest.raises(WeightsError, match=words.replace("|", r"\|")):
        read(tokens, 1000, key, text=frozenset(text))


@pytest.mark.parametrize("num_rows", [47 + 63, 47 + 65, 47 + 64 + 44])
def test_without_a_word_on_the_codes_the_embedding_must_end_with_them(num_rows: int) -> None:
    with pytest.raises(WeightsError, match=r"the id of VQ code 0 is not known .* set image_token_offset"):
        read(AT_FORTY, num_rows)


def test_the_codebook_may_have_another_size() -> None:
    assert read(AT_FORTY, 47 + 64).image_columns == slice(47, 111)


def test_end_of_text_is_no_part_of_a_layout() -> None:
    assert read(dict(enumerate(NAMES)), 7 + 64).layout_ids == frozenset(range(6))


def listing(first: int, codes: range) -> list[dict[str, Any]]:
    options = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": first + each, "content": f"<|image_{each}|>"} | options for each in codes]


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        (name, codes)
        for name, codes in itertools.product(
            ("tokenizer.json", "tokenizer_config.json", "added_tokens.json"), (range(1, 4), range(2, 9, 2))
        )
    ],
)
def test_added_tokens_that_would_be_read_with_other_ids_are_refused(
    name: str, codes: range, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    tokens, path = listing(397, codes), copy / name
    content = json.loads(path.read_text()) if path.exists() else {}
    if name == "tokenizer.json":
        content["added_tokens"] += tokens
    elif name == "tokenizer_config.json":
        content["added_tokens_decoder"] = {str(each.pop("id")): each for each in tokens}
    else:
        content = {each["content"]: each["id"] for each in tokens}
    path.write_text(json.dumps(content))
    message = rf"{name} gives '<\|image_{codes[0]}\|>' the id {397 + codes[0]}, but it is read as 397"
    with pytest.raises(WeightsError, match=message):
        Tokenizer(copy)


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
