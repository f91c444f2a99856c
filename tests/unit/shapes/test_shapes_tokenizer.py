"""The tokenizer: a word of the world is one token, and nothing else is lost."""

from pathlib import Path

import pytest

from dimoo_core.request.templates import UNDERSTANDING_SYSTEM, chat
from dimoo_core.request.tokenizer import Tokenizer
from shapes.task import TASKS, sample
from shapes.tokenizer import SPECIAL_TOKENS, build_tokenizer, save_tokenizer
from shapes.vocabulary import WORD, sentences


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(directory)
    return Tokenizer(directory)


@pytest.mark.parametrize("task", TASKS)
def test_every_word_of_every_example_is_one_token(task: str, tokenizer: Tokenizer) -> None:
    for split in ("train", "test"):
        for seed in range(80):
            example = sample(task, seed, split)  # type: ignore[arg-type]
            for text in (example.prompt, example.answer or ""):
                if text not in sentences() and " zero" not in text:  # which is spelled where no answer begins with it
                    assert len(tokenizer.encode(text)) == len(WORD.findall(text)), text


def test_system_prompts_are_single_tokens_and_decode_to_their_text(tokenizer: Tokenizer) -> None:
    text = chat(UNDERSTANDING_SYSTEM, "what is at b3?")
    ids = tokenizer.encode(text)
    assert [tokenizer.token(index) for index in ids[:4]] == ["<system>", UNDERSTANDING_SYSTEM, "</system>", "<user>"]
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_any_other_text_is_encoded_by_bytes_and_comes_back(tokenizer: Tokenizer) -> None:
    text = "Zwei rote Façades,  b9?!\n<漢字> red circles"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_tokenizer_is_small_and_the_same_every_time(tokenizer: Tokenizer) -> None:
    assert build_tokenizer().to_str() == build_tokenizer().to_str()
    assert tokenizer.num_ids < 900
    assert all(tokenizer.token_id(token) is not None for token in SPECIAL_TOKENS)


def test_saving_writes_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_tokenizer(tmp_path / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert set(files) == {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
