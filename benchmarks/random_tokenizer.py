"""Tokenizers of checkpoints with random weights: a small one, and those that the published vocabulary may have.

The published tokenizer cannot be had everywhere, and public sources leave open whether it lists the image's codes. So
there is one of each kind, with the published size and special ids, and with words that nobody has said.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal, get_args

Vocabulary = Literal["small", "published", "published-listed", "published-added", "published-followed"]
"""``small``: some hundred ids, then the codes. The others have the published size and ids, and the codes not at all, in
``tokenizer.json``, in ``added_tokens.json`` and ``tokenizer_config.json`` alone, or listed with other tokens after."""

SPECIAL_TOKENS = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<end-of-line>",
    "<|mdm_mask|>",
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
"""Of the small vocabulary, in the order of their ids, which follow those of the text."""

_PUBLISHED_IDS = {
    "<|startoftext|>": 126080,
    "<|endoftext|>": 126081,
    "<end-of-line>": 126084,
    "<|mdm_mask|>": 126336,
    "<system>": 126340,
    "</system>": 126341,
    "<user>": 126342,
    "</user>": 126343,
    "<IMAGE>": 126349,
    "</IMAGE>": 126350,
    "<uncondition>": 126351,
    "<answer>": 126354,
    "</answer>": 126355,
}
"""Ids of ``<system>`` to ``</user>`` are not public: these are a choice.

Source: the reference's ``config.py``, and LLaDA's tokenizer, which it extends.
"""
_NUM_PUBLISHED_TEXT_IDS, _PUBLISHED_OFFSET = 126_080, 126_356
_TOKENS_AFTER = ("<|tool|>", "<|end_of_tool|>", "<|audio|>")

_TRAINING_TEXT = (
    "You can process both text and images. Generate an image according to the text prompt. Answer the following "
    "question based on the provided images. What is in the picture? The picture shows a red bicycle on a quiet street, "
    "a small boat on the lake, two people with a dog, and the old house under green trees. How many cats are there? "
    "There are three cats and one yellow ball on the table near the window. Describe the image in one sentence."
)
_NUM_TEXT_IDS = 384
_OPTIONS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyIds:
    """Where a vocabulary has what; ``num_ids`` is one more than the tokenizer's last id."""

    num_text_ids: int
    first_free: int  # where the codes may begin
    num_ids: int


def write_tokenizer(directory: Path, vocabulary: Vocabulary, num_codes: int) -> VocabularyIds:
    """Write ``tokenizer.json`` and the files beside it.

    Args:
        directory: Of the checkpoint.
        vocabulary: Which one.
        num_codes: How many codes are listed, if they are.

    Raises:
        ValueError: There is no such vocabulary.
    """
    if vocabulary not in get_args(Vocabulary):
        raise ValueError(f"vocabulary must be one of {', '.join(get_args(Vocabulary))}, got {vocabulary!r}")
    roles = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    options: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    tokenizer = _trained()
    if vocabulary == "small":
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
        tokenizer.save(str(directory / "tokenizer.json"))
        num_ids: int = tokenizer.get_vocab_size(with_added_tokens=True)
        ids = VocabularyIds(num_text_ids=num_ids - len(SPECIAL_TOKENS), first_free=num_ids, num_ids=num_ids)
    else:
        codes = {_PUBLISHED_OFFSET + code: f"<|image_{code}|>" for code in range(num_codes)}
        listed = {} if vocabulary == "published" else codes
        if vocabulary == "published-followed":
            listed = codes | dict(enumerate(_TOKENS_AFTER, _PUBLISHED_OFFSET + num_codes))
        is_apart = vocabulary == "published-added"
        if is_apart:
            options["added_tokens_decoder"] = {str(key): {"content": token} | _OPTIONS for key, token in listed.items()}
            write_json(directory / "added_tokens.json", {token: key for key, token in listed.items()})
        content = _with_published_ids(json.loads(tokenizer.to_str()), {} if is_apart else listed)
        write_json(directory / "tokenizer.json", content)
        ids = VocabularyIds(
            num_text_ids=_NUM_PUBLISHED_TEXT_IDS,
            first_free=_PUBLISHED_OFFSET,
            num_ids=max(listed, default=_PUBLISHED_OFFSET - 1) + 1,
        )
    write_json(directory / "special_tokens_map.json", roles)
    write_json(directory / "tokenizer_config.json", {**roles, **options})
    return ids


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object as the files of a checkpoint have it."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _trained() -> Any:
    """A byte-level BPE tokenizer, not yet with special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=_NUM_TEXT_IDS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([_TRAINING_TEXT], trainer)
    return tokenizer


def _with_published_ids(content: dict[str, Any], listed: dict[int, str]) -> dict[str, Any]:
    """A tokenizer's JSON form with as many words as the published one, its special tokens, and more after these."""
    vocabulary = content["model"]["vocab"]
    vocabulary |= {_unsaid_word(key): key for key in range(len(vocabulary), _NUM_PUBLISHED_TEXT_IDS)}
    added = {key: f"<|reserved_{key}|>" for key in range(_NUM_PUBLISHED_TEXT_IDS, _PUBLISHED_OFFSET)}
    added |= {key: token for token, key in _PUBLISHED_IDS.items()} | listed
    content["added_tokens"] = [{"id": key, "content": token} | _OPTIONS for key, token in added.items()]
    return content


def _unsaid_word(number: int) -> str:
    """A word of four letters that no text is split into, since there is no merge for it; another for each number."""
    base = len(ascii_uppercase)
    return "Ġ" + "".join(ascii_uppercase[number // base**place % base] for place in (3, 2, 1, 0))
