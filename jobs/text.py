"""Small things about text: numbers with their nouns, and prompts or captions that are left out by their words."""

import re
from pathlib import Path

from dimoo_core.errors import ConfigError


class WordFilter:
    """Looks at whole words, whatever their case.

    Args:
        blocklist: A file with a word or phrase a line; blank lines and those that begin with # are left out.
        min_words: Fewest words of a text that is kept.
    """

    def __init__(self, blocklist: Path | None, min_words: int) -> None:
        self._min_words = min_words
        self._blocked: re.Pattern[str] | None = None
        if blocklist is not None:
            phrases = _phrases(blocklist)
            alternatives = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in phrases)
            self._blocked = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE)

    def refuses(self, text: str) -> bool:
        """Whether a text is to be left out."""
        is_blocked = self._blocked is not None and self._blocked.search(text) is not None
        return is_blocked or len(text.split()) < self._min_words


def _phrases(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the blocklist {path}: {error}") from error
    phrases = [line for line in lines if line and not line.startswith("#")]
    if not phrases:
        raise ConfigError(f"the blocklist {path} holds no words: give one per line")
    return phrases


def pluralize(number: int, noun: str, plural: str | None = None) -> str:
    """Such as ``1 row`` or ``1,200 rows``; ``plural`` is for nouns that take more than an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
