"""Text to token ids and back, with the checkpoint's own fast tokenizer; no code of a checkpoint is ever run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dimoo_core.checkpoint_files import TOKENIZER_OPTIONS
from dimoo_core.errors import WeightsError
from dimoo_core.stored_file import check_file, read_json_object


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

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``; special tokens written out in it are recognised, none is added."""
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of ``ids``; ids without a token, such as image codes, decode to nothing."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def token_id(self, token: str) -> int | None:
        """Id of one token by its exact string, None if there is no such token."""
        found: int | None = self._tokenizer.get_vocab().get(token)
        return found

    def token(self, token_id: int) -> str | None:
        """String of one token id, None if the id has no token."""
        found: str | None = self._tokenizer.convert_ids_to_tokens(token_id)
        return found

    @property
    def num_ids(self) -> int:
        """One more than the highest id that has a token."""
        last: int = max(self._tokenizer.get_vocab().values())
        return last + 1
