"""What the options of ``dimoo-batch manifest build`` say, from the words a person gives."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dimoo_core.errors import ConfigError
from jobs.spec.assignment import assigned_value
from manifests.columns import COLUMNS, IMAGE, IMAGES, TEXT, TEXTS


def name_value_pairs(option: str, texts: Iterable[str] | None) -> list[tuple[str, str]]:
    """What ``--option NAME=VALUE``, given any number of times, says.

    Raises:
        ConfigError: One has no name, sign or value.
    """
    pairs = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise ConfigError(f"{option} needs NAME=VALUE, got {text!r}")
        pairs.append((name.strip(), value))
    return pairs


def listed_values(text: str) -> tuple[str, ...]:
    """``A,B``, or the lines of ``@FILE``.

    Raises:
        ConfigError: The file cannot be read.
    """
    if not text.startswith("@"):
        return tuple(value.strip() for value in text.split(","))
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the values of --var from {text[1:]}: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())


def constant_cell(name: str, text: str, types: Mapping[str, str]) -> Any:
    """The cell that ``--set NAME=VALUE`` gives every row: YAML, or text as it is written in a column of texts.

    Args:
        name: The column's.
        text: Its value.
        types: What ``--type`` says of columns.

    Raises:
        ConfigError: It is no value in YAML.
    """
    kind = COLUMNS[name].kind if name in COLUMNS else None
    wanted: Any = object
    if kind in (TEXT, IMAGE) or (kind is None and types.get(name) == "string"):
        wanted = str
    elif kind in (TEXTS, IMAGES):
        wanted = list[str]
    return assigned_value(name, text.strip(), wanted)


def share_value(text: str) -> float:
    """The share of a split.

    Raises:
        ConfigError: It is no number.
    """
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--splits needs shares as numbers, got {text!r}") from error


def dedupe_choice(text: str) -> Any:
    """How duplicates are told.

    Raises:
        ConfigError: In no way that is known.
    """
    if text not in ("none", "exact", "images"):
        raise ConfigError(f"--dedupe must be none, exact or images, got {text!r}")
    return text
