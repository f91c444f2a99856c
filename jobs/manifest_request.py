"""What to build a manifest from and how, and what was built."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dimoo_core.errors import ConfigError
from jobs.manifest_source_format import Format
from manifests.builder.seen import MAX_DISTANCE

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
        """Refuse options that mean nothing.

        Raises:
            ConfigError: One is out of its range, or there is nothing to build from.
        """
        if self.splits:
            check_splits(self.splits)
        if not self.inputs and not (self.prompt and self.variables):
            raise ConfigError("there is nothing to build from: give inputs, or --prompt with a template and --var")
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

    def to_json(self) -> dict[str, object]:
        """For standard output."""
        return asdict(self)


def check_splits(splits: Mapping[str, float]) -> None:
    """Make sure that the shares are a partition.

    Raises:
        ConfigError: A share is not positive, or together they are not 1.
    """
    if any(share <= 0 for share in splits.values()) or abs(sum(splits.values()) - 1) > 1e-9:
        given = ", ".join(f"{name}={share:g}" for name, share in splits.items())
        raise ConfigError(f"splits must be positive shares that add up to 1, got {given}")
