"""Everything a worker has to know; small enough to be sent to each of them. Importable without torch and ray."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dimoo_core.errors import ConfigError
from dimoo_core.memory.need import MemoryNeed
from dimoo_core.request.templates import MATCH_QUESTION
from dimoo_core.settings import DtypeName, EngineConfig, Resolution
from manifests.errors import FailureClass
from manifests.row.settings import RowDefaults
from pipeline.protocol.source_policy import SourcePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """Tries of a row by the class of its failure; classes without a number here get one try, as no more would help.

    ``crash_tries`` counts the workers that may die with a row. Waits double from ``first_wait_s`` to ``max_wait_s``.
    ``row_timeout_s`` is for the time of each of a row's requests in the engine, ``input_timeout_s`` for one try of
    reading an input image. If the engine of a worker fails on ``max_engine_streak`` rows in succession, the worker is
    to blame, or what it was told; None: it never is.
    """

    store_tries: int = 7
    engine_tries: int = 2
    crash_tries: int = 2
    first_wait_s: float = 1.0
    max_wait_s: float = 30.0
    row_timeout_s: float | None = None
    input_timeout_s: float | None = 300.0
    max_engine_streak: int | None = 32

    def __post_init__(self) -> None:
        for name in ("store_tries", "engine_tries", "crash_tries"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_engine_streak is not None and self.max_engine_streak < 1:
            raise ConfigError(f"max_engine_streak must be at least 1, got {self.max_engine_streak}")
        if not 0 < self.first_wait_s <= self.max_wait_s:
            raise ConfigError(
                f"first_wait_s must be above 0 and at most max_wait_s ({self.max_wait_s:g}), got {self.first_wait_s:g}"
            )
        for name in ("row_timeout_s", "input_timeout_s"):
            limit_s: float | None = getattr(self, name)
            if limit_s is not None and not limit_s > 0:
                raise ConfigError(f"{name} must be above 0, got {limit_s:g}")

    def max_tries(self, failure_class: FailureClass) -> int:
        """Most tries of a row that fails in this way."""
        match failure_class:
            case "store":
                return self.store_tries
            case "engine":
                return self.engine_tries
            case "crash":
                return self.crash_tries
            case _:
                return 1

    def wait_s(self, num_tries: int) -> float:
        """How long a row waits after so many tries."""
        return min(self.max_wait_s, self.first_wait_s * 2.0 ** (num_tries - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushPolicy:
    """A segment is flushed after so many finished rows, or so long after the first of them; None: not for that."""

    rows: int | None = None
    seconds: float | None = 30.0

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise ConfigError(f"flush_rows must be at least 1, got {self.rows}")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError(f"flush_s must be above 0, got {self.seconds:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLife:
    """Limits of one worker process.

    After SIGTERM a worker, and a driver with all of its workers, is gone within ``stop_deadline_s``: Kubernetes and
    Google's preemption leave 30 s before they kill. A worker that shows no sign of life for ``hang_timeout_s`` is
    killed. One that has run ``max_rows`` rows, or for ``max_s``, or that has grown by ``max_growth_bytes`` since its
    second segment, finishes what it has begun and is replaced. None: there is no such limit.
    """

    stop_deadline_s: float = 25.0
    hang_timeout_s: float | None = 1800.0
    max_rows: int | None = None
    max_s: float | None = None
    max_growth_bytes: int | None = 16 * 2**30

    def __post_init__(self) -> None:
        for name in ("stop_deadline_s", "hang_timeout_s", "max_rows", "max_s", "max_growth_bytes"):
            limit: float | None = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ConfigError(f"{name} must be above 0, got {limit:g}")


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


ImageFormat = Literal["png", "jpeg", "webp"]

IMAGE_SUFFIXES: dict[ImageFormat, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
"""What image names end with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How rows become results, and how many are in hand at once.

    Fields of the first group decide what the results are and are kept in ``run.json``; a resume with others is
    refused. Fields of the second group may differ from one start to the next.
    """

    model: str  # a directory, or OWNER/NAME@COMMIT
    adapter: str | None = None  # likewise; a LoRA to merge into it
    device: str
    dtype: DtypeName
    seed: int = 0
    defaults: RowDefaults = field(default_factory=RowDefaults)
    input_resolution: Resolution = 1024
    image_to_image_resolution: Resolution = 512
    tokenize_resolution: Resolution = 1024
    random_crop: bool = False  # of understanding
    image_to_image_random_crop: bool = False
    tokenize_random_crop: bool = False
    match_question: str = MATCH_QUESTION  # what score and best_of ask
    image_format: ImageFormat = "png"
    image_quality: int = 95  # of JPEG and WebP, 1 to 100
    hooks: HookSettings = field(default_factory=HookSettings)

    sources: SourcePolicy = field(default_factory=SourcePolicy)
    output_uri: str
    run_digest: str = ""  # of what decides results, the manifest included; each part repeats it
    settings_digest: str = ""  # the same of this start, which may have been allowed to differ
    epoch: int = 1  # of the driver; see ``pipeline.output.epoch``
    engine: EngineConfig = field(default_factory=EngineConfig)
    max_rows_in_flight: int = 128  # read from the manifest and not yet stored, for each worker
    fetch_threads: int = 8
    store_threads: int = 8
    flush: FlushPolicy = field(default_factory=FlushPolicy)
    failures: FailurePolicy = field(default_factory=FailurePolicy)
    life: WorkerLife = field(default_factory=WorkerLife)
    memory: MemoryNeed | None = None  # of a worker, to be checked where it is; None: it was
    is_dtype_fixed: bool = False  # by the run's earlier starts

    def __post_init__(self) -> None:
        if self.image_format not in IMAGE_SUFFIXES:
            raise ConfigError(f"image format must be one of {', '.join(IMAGE_SUFFIXES)}, got {self.image_format!r}")
        if not 1 <= self.image_quality <= 100:
            raise ConfigError(f"image quality must be from 1 to 100, got {self.image_quality}")
        for name in ("max_rows_in_flight", "fetch_threads", "store_threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
