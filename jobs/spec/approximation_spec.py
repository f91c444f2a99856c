"""The parts of the job spec that replace what a preset says, setting by setting."""

from typing import Any, Literal

from dimoo_core.errors import ConfigError
from dimoo_core.settings import ParallelCommit, StepCacheConfig, TargetCacheConfig, TextCacheConfig
from jobs.spec.section import Section


class StepCacheSpec(Section):
    """A step cache of images; what is not given has the default of its mode."""

    mode: Literal["none", "reference", "target"]
    reuse_ratio: float | None = None
    refresh_interval: int | None = None
    warmup_ratio: float | None = None
    refresh_share: float | None = None
    prompt_share: float | None = None
    lookahead: float | None = None
    compute_ratio: float | None = None

    def settings(self) -> StepCacheConfig | TargetCacheConfig | None:
        """The engine's form.

        Raises:
            ConfigError: If a value is out of range, or means nothing in this mode.
        """
        match self.mode:
            case "none":
                _given(self, "step_cache", "mode", ())
                return None
            case "reference":
                return StepCacheConfig(**_given(self, "step_cache", "mode", StepCacheConfig.__dataclass_fields__))
            case "target":
                return TargetCacheConfig(**_given(self, "step_cache", "mode", TargetCacheConfig.__dataclass_fields__))


class TextCacheSpec(Section):
    """A cache of answers; what is not given has its default."""

    mode: Literal["none", "prefix", "dual"]
    prompt_interval: int | None = None
    refresh_interval: int | None = None

    def settings(self) -> TextCacheConfig | None:
        """As ``StepCacheSpec.settings``."""
        if self.mode == "none":
            _given(self, "cache", "mode", ())
            return None
        return TextCacheConfig(mode=self.mode, **_given(self, "cache", "mode", TextCacheConfig.__dataclass_fields__))


class CommitSpec(Section):
    """When a step may decide more than its share."""

    rule: Literal["none", "confidence", "entropy"]
    bound: float | None = None

    def settings(self) -> ParallelCommit | None:
        """As ``StepCacheSpec.settings``."""
        if self.rule == "none":
            _given(self, "commit", "rule", ())
            return None
        if self.bound is None:
            raise ConfigError(f"commit.bound is missing: rule {self.rule!r} needs one")
        return ParallelCommit(rule=self.rule, bound=self.bound)


def _given(section: Section, name: str, kind: str, known: Any) -> dict[str, Any]:
    """What the section gives beside its kind, all of it among the ``known`` fields."""
    given = section.model_dump(exclude={kind}, exclude_none=True)
    if unknown := [key for key in given if key not in known]:
        raise ConfigError(f"{name}.{unknown[0]} means nothing where {name}.{kind} is {getattr(section, kind)!r}")
    return given
