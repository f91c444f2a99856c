"""The job spec's section ``hooks``: functions of a user's own that a run calls. See docs/hooks.md."""

from collections.abc import Collection
from typing import Annotated

from pydantic import BeforeValidator, Field

from dimoo_core.errors import ConfigError
from jobs.spec.section import Section
from pipeline.protocol.settings import HookSettings
from pipeline.rows.hooks import find_hook


def _as_tuple(value: object) -> object:
    """One name may be given without a list."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class HooksSpec(Section):
    """Names of hooks, ``module:function`` or that of an entry point; ``scores`` and ``min_scores`` by score."""

    rows: Names = ()
    results: Names = ()
    scores: dict[str, str] = Field(default_factory=dict)
    min_scores: dict[str, float] = Field(default_factory=dict)

    def settings(self) -> HookSettings:
        """The workers' form.

        Raises:
            ConfigError: A score has no name that can be a column's, or a least score belongs to none.
        """
        return HookSettings(
            rows=self.rows, results=self.results, scores=dict(self.scores), min_scores=dict(self.min_scores)
        )

    def check(self, columns: Collection[str]) -> None:
        """Refuse what would fail in every worker.

        Args:
            columns: Those of the manifest that reach the output.

        Raises:
            ConfigError: A hook cannot be imported, a section is wrong, or a score's column would be there twice.
        """
        settings = self.settings()
        for name in settings.names:
            find_hook(name)
        if twice := [column for column in settings.score_columns if column in columns]:
            raise ConfigError(
                f"hooks.scores: the manifest has a column {twice[0]!r} already, which reaches the output: "
                "give the score another name"
            )
