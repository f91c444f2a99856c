"""Which functions of a user's own a run calls, by name; importable without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dimoo_core.errors import ConfigError

SCORE_PREFIX = "score_"
"""What the names of score columns begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSettings:
    """Names as ``pipeline.rows.hooks`` finds them, each kind in the order in which they are called.

    Attributes:
        rows: From a row's cells to new ones, before anything is fetched.
        results: From a finished row to a finished row, before anything is stored.
        scores: From a finished row to a number, by the name of the score.
        min_scores: Least scores of rows that are kept.
    """

    rows: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    scores: Mapping[str, str] = field(default_factory=dict)
    min_scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if wrong := [name for name in self.scores if not name.isidentifier()]:
            raise ConfigError(f"hooks.scores: a score's name is a word of letters, digits and _, got {wrong[0]!r}")
        if unknown := sorted(set(self.min_scores) - set(self.scores)):
            known = ", ".join(self.scores) or "none"
            raise ConfigError(f"hooks.min_scores: there is no score {unknown[0]!r}; hooks.scores has: {known}")

    @property
    def names(self) -> tuple[str, ...]:
        """Every hook, in the order of their calls."""
        return (*self.rows, *self.results, *self.scores.values())

    @property
    def score_columns(self) -> tuple[str, ...]:
        """Columns of the output that hold the scores."""
        return tuple(SCORE_PREFIX + name for name in self.scores)
