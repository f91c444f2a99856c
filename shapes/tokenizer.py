"""The embedded model's tokenizer: one token for each word of the world, bytes for everything else.

It is a byte-level BPE without merges, in which a whole word that is in the vocabulary is one token
(``ignore_merges``). Words keep their leading space, as in GPT-2; ``b3`` is one word. System prompts are single tokens
that are not special: the sequence gets shorter by a third, and decoding gives back their text.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from shapes.vocabulary import first_words, sentences, words_inside

START, END, MASK = "<|startoftext|>", "<|endoftext|>", "<|mdm_mask|>"
SPECIAL_TOKENS = (
    START,
    END,
    "<end-of-line>",
    MASK,
    "<system>",
    "</system>",
    "<user>",
    "</user>",
    "<IMAGE>",
    "</IMAGE>",
    "<uncondition>",
    "<answer>",
    "</answer>",
)
_WORD_WITH_SPACE = r" ?[\p{L}\p{N}]+| ?[^\s\p{L}\p{N}]|\s+"
_SIGNS = ",.?"


def build_tokenizer() -> Tokenizer:
    """The tokenizer, the same on every call."""
    byte_tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    spaced = [f" {word}" for word in words_inside() if word not in _SIGNS]
    words = [_as_bytes(word) for word in (*first_words(), *spaced)]
    tokens = dict.fromkeys([*byte_tokens, *words])  # a first word may be a single letter
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD_WITH_SPACE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(sentence, normalized=False) for sentence in sentences()])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return tokenizer


def save_tokenizer(directory: Path) -> None:
    """Write the tokenizer's three files of a checkpoint directory."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    roles = {"bos_token": START, "eos_token": END, "pad_token": END}
    others = [token for token in SPECIAL_TOKENS if token not in (START, END)]
    config = {
        **roles,
        "additional_special_tokens": others,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    _write(directory / "tokenizer.json", json.loads(tokenizer.to_str()))
    _write(directory / "tokenizer_config.json", config)
    _write(directory / "special_tokens_map.json", {**roles, "additional_special_tokens": others})


def _as_bytes(word: str) -> str:
    """The word as byte-level tokens spell it: all words of the world are ASCII, so only the space changes."""
    return word.replace(" ", "Ġ")


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
