"""Text to token ids and back, with the checkpoint's own fast tokenizer; no code of a checkpoint is ever run."""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from dimoo_core.errors import RequestError, WeightsError
from dimoo_core.files import TOKENIZER_OPTIONS, check_file, read_json_object
from dimoo_core.settings import MAX_POSITIONS

MAX_CHARACTERS = 32 * MAX_POSITIONS
"""Of a text: one whose tokens fit into a sequence is far shorter, and a longer one takes seconds and gigabytes."""


class Tokenizer:
    """The checkpoint's ``tokenizer.json``, with the options of its ``tokenizer_config.json``."""

    def __init__(self, directory: Path) -> None:
        check_file(directory / "tokenizer.json", if_missing="only fast tokenizers are supported")
        for name in TOKENIZER_OPTIONS:
            if (directory / name).exists():
                read_json_object(directory / name, if_missing="it was there a moment ago")
        from transformers import PreTrainedTokenizerFast

        try:
            self._tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
        except Exception as error:  # the Rust library raises that very class, transformers a KeyError
            reason = " ".join(str(error).split()) or type(error).__name__
            fix = "download or copy the tokenizer's files again"
            raise WeightsError(f"{directory} holds no readable tokenizer: {reason}: {fix}") from error
        self._check_declared_ids(directory)

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``; special tokens written out in it are recognised, none is added.

        Raises:
            RequestError: It is so long that no sequence could hold it.
        """
        if len(text) > MAX_CHARACTERS:
            fix = "make the prompt shorter"
            raise RequestError(f"a prompt must have at most {MAX_CHARACTERS:,} characters, got {len(text):,}: {fix}")
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of ``ids``; ids without a token, such as image codes, decode to nothing."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def token_id(self, token: str) -> int | None:
        """Id of one token by its exact string, None if there is no such token."""
        return self._ids.get(token)

    def token(self, token_id: int) -> str | None:
        """String of one token id, None if the id has no token."""
        return self._tokens.get(token_id)

    def is_added(self, token_id: int) -> bool:
        """Whether the id has a token that was added to the vocabulary of texts."""
        return token_id in self._added_ids

    @property
    def num_ids(self) -> int:
        """One more than the highest id that has a token."""
        return max(self._tokens) + 1

    @cached_property
    def _ids(self) -> dict[str, int]:
        ids: dict[str, int] = self._tokenizer.get_vocab()
        return ids

    @cached_property
    def _tokens(self) -> dict[int, str]:
        return {token_id: token for token, token_id in self._ids.items()}

    @cached_property
    def _added_ids(self) -> frozenset[int]:
        return frozenset(self._tokenizer.get_added_vocab().values())

    def _check_declared_ids(self, directory: Path) -> None:
        """Refuse files that give a token another id than it is read with: added tokens are renumbered in order."""
        for path, token, declared in _declared_ids(directory):
            if (found := self._ids.get(token)) is not None and found != declared:
                raise WeightsError(
                    f"{path} gives {token!r} the id {declared}, but it is read as {found}: added tokens are numbered "
                    "in their order after the vocabulary, so none may be missing before it"
                )


def _declared_ids(directory: Path) -> Iterator[tuple[Path, str, int]]:
    """Every added token that the files of a tokenizer give an id."""
    for name in ("tokenizer.json", "tokenizer_config.json", "added_tokens.json"):
        path = directory / name
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if name == "tokenizer.json":
                pairs = [(token["content"], token["id"]) for token in content.get("added_tokens") or ()]
            elif name == "tokenizer_config.json":
                tokens = content.get("added_tokens_decoder") or {}
                pairs = [(token["content"], int(token_id)) for token_id, token in tokens.items()]
            else:
                pairs = list(content.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"{path} has added tokens that are not readable: {error!r}") from error
        yield from ((path, token, token_id) for token, token_id in pairs)
