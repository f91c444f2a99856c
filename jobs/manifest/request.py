"""What to build a manifest from and how, from the options of ``dimoo-batch manifest build``, and what was built."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from dimoo_core.errors import ConfigError
from jobs.manifest.dedupe import MAX_DISTANCE
from jobs.manifest.sources import Format
from jobs.spec.override import override_value
from manifests.columns import COLUMNS, IMAGE, IMAGES, TEXT, TEXTS


def name_value_pairs(option: str, texts: Iterable[str] | None) -> list[tuple[str, str]]:
    """The values of ``--option NAME=VALUE``, repeatable."""
    pairs = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise ConfigError(f"{option} needs NAME=VALUE, got {text!r}")
        pairs.append((name.strip(), value))
    return pairs


def listed_values(text: str) -> tuple[str, ...]:
    """``A,B``, or the lines of ``@FILE``."""
    if not text.startswith("@"):
        return tuple(value.strip() for value in text.split(","))
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the values of --var from {text[1:]}: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())


def constant_cell(name: str, text: str, types: Mapping[str, str]) -> Any:
    """The cell that ``--set NAME=VALUE`` gives every row: YAML, or text as it is written in a column of texts."""
    kind = COLUMNS[name].kind if name in COLUMNS else None
    wanted: Any = object
    if kind in (TEXT, IMAGE) or (kind is None and types.get(name) == "string"):
        wanted = str
    elif kind in (TEXTS, IMAGES):
        wanted = list[str]
    return override_value(name, text.strip(), wanted)


Dedupe = Literal["none", "exact", "images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What to build a manifest from, and how; the options of ``dimoo-batch manifest build``."""

    inputs: tuple[str, ...]
    target: str
    format: Format
    task: str | None = None
    prompt: str | None = None
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    images: str | None = None
    embed: bool = False
    dedupe: Dedupe = "none"
    distance: int = 4
    sample: float | None = None
    limit: int | None = None
    repeat: int = 1
    splits: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    skips_invalid: bool = False
    checks_images: bool = False
    overwrites: bool = False
    hooks: tuple[str, ...] = ()
    blocklist: Path | None = None
    min_words: int = 0

    def check(self) -> None:
        """Refuse options that mean nothing."""
        if self.splits:
            check_splits(self.splits)
        if not self.inputs and not (self.prompt and self.variables):
            raise ConfigError("nothing to build from: give inputs, or --prompt with a template and --var")
        if self.dedupe not in get_args(Dedupe):
            raise ConfigError(f"--dedupe must be none, exact or images, got {self.dedupe!r}")
        if not 0 <= self.distance <= MAX_DISTANCE:
            raise ConfigError(f"--distance must be from 0 to {MAX_DISTANCE} bits, got {self.distance}")
        if self.sample is not None and (self.sample <= 0 or (self.sample >= 1 and self.sample % 1)):
            raise ConfigError(f"--sample must be a share below 1 or a whole number of rows, got {self.sample:g}")
        if self.repeat < 1:
            raise ConfigError(f"--repeat must be at least 1, got {self.repeat}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What was built."""

    manifest: str
    rows: int
    invalid: int
    duplicates: int
    repeats: int
    filtered: int
    tasks: Mapping[str, int]
    files: tuple[str, ...]
    reasons: tuple[str, ...]


def check_splits(splits: Mapping[str, float]) -> None:
    """Make sure that the shares are a partition."""
    if any(share <= 0 for share in splits.values()) or abs(sum(splits.values()) - 1) > 1e-9:
        given = ", ".join(f"{name}={share:g}" for name, share in splits.items())
        raise ConfigError(f"splits must be positive shares that add up to 1, got {given}")
