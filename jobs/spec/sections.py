"""The sections of the job spec that say how a run works: sources, hooks, failures, the life of workers."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from dimoo_core.errors import ConfigError
from pipeline.driver.failure_limit import FailureLimit
from pipeline.protocol.settings import FailurePolicy, HookSettings, WorkerLife
from pipeline.protocol.source_policy import SourcePolicy
from pipeline.rows.hooks import find_hook

ResolutionValue = Annotated[int, Field(ge=32, multiple_of=32)] | Literal["adaptive", "native"]
"""How input images are cropped, see ``Resolution``."""


class Section(BaseModel):
    """Keys of the spec that belong together; an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@contextmanager
def within_section(name: str) -> Iterator[None]:
    """Put the section's name before the message of a ``ConfigError``."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{name}.{error}") from error


_DEFAULT = SourcePolicy()


class SourcesSpec(Section):
    """Where input images may lie, and what reading one may cost; see ``SourcePolicy``."""

    local_files: bool | None = None
    folders: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    max_bytes: Annotated[int, Field(ge=1)] = _DEFAULT.max_bytes
    max_pixels: Annotated[int, Field(ge=1)] = _DEFAULT.max_pixels
    decode_timeout_s: Annotated[float, Field(gt=0)] = _DEFAULT.decode_timeout_s
    decode_memory_bytes: Annotated[int, Field(ge=2**28)] = _DEFAULT.decode_memory_bytes

    @field_validator("folders", "buckets", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        """YAML and TOML know lists only."""
        return tuple(value) if isinstance(value, list) else value

    def policy(self) -> SourcePolicy:
        """The pipeline's form."""
        return SourcePolicy(**self.model_dump())


class TokenizeSpec(Section):
    """How input images are cropped before they are encoded; codes for training want the crop that training uses."""

    resolution: ResolutionValue = 1024
    random_crop: bool = False


class WorkerLifeSpec(Section):
    """How long workers live, and how they end; see ``WorkerLife``."""

    stop_deadline_s: float = WorkerLife().stop_deadline_s
    hang_timeout_s: float | None = WorkerLife().hang_timeout_s
    max_rows: int | None = WorkerLife().max_rows
    max_s: float | None = WorkerLife().max_s
    max_growth_bytes: int | None = WorkerLife().max_growth_bytes

    def life(self) -> WorkerLife:
        """The workers' form.

        Raises:
            ConfigError: If a value is out of range.
        """
        try:
            return WorkerLife(**dict(self))
        except ConfigError as error:
            raise ConfigError(f"worker_life.{error}") from error


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


class TriesSpec(Section):
    """Tries of a row, by the class of its failure; other classes are not tried again."""

    store: Annotated[int, Field(ge=1)] = FailurePolicy().store_tries
    engine: Annotated[int, Field(ge=1)] = FailurePolicy().engine_tries
    crash: Annotated[int, Field(ge=1)] = FailurePolicy().crash_tries


class FailuresSpec(Section):
    """When a row is tried again, when it is given up, and when a run is."""

    tries: TriesSpec = TriesSpec()
    first_wait_s: float = FailurePolicy().first_wait_s
    max_wait_s: float = FailurePolicy().max_wait_s
    row_timeout_s: float | None = None
    input_timeout_s: float | None = FailurePolicy().input_timeout_s
    max_failures: int | str | None = None
    max_engine_streak: Annotated[int, Field(ge=1)] | None = FailurePolicy().max_engine_streak

    def policy(self) -> FailurePolicy:
        """The workers' form.

        Raises:
            ConfigError: If a value is out of range.
        """
        try:
            return FailurePolicy(
                store_tries=self.tries.store,
                engine_tries=self.tries.engine,
                crash_tries=self.tries.crash,
                first_wait_s=self.first_wait_s,
                max_wait_s=self.max_wait_s,
                row_timeout_s=self.row_timeout_s,
                input_timeout_s=self.input_timeout_s,
                max_engine_streak=self.max_engine_streak,
            )
        except ConfigError as error:
            raise ConfigError(f"failures.{error}") from error

    def limit(self) -> FailureLimit | None:
        """When a run is hopeless; None if it never is.

        Raises:
            ConfigError: If the limit is neither a number nor a percentage.
        """
        return None if self.max_failures is None else FailureLimit.parse(str(self.max_failures))
