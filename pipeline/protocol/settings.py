"""Everything a worker has to know; small enough to be sent to each of them. Importable without torch and ray."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dimoo_core.errors import ConfigError
from dimoo_core.memory.need import MemoryNeed
from dimoo_core.request.templates import MATCH_QUESTION
from dimoo_core.settings import SECTION, BatchInvariance, DtypeName, EngineConfig, Resolution
from manifests.errors import FailureClass
from manifests.row.settings import RowDefaults
from pipeline.protocol.source_policy import SourcePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """Tries of a row by the class of its failure, other classes get one; ``crash`` counts the workers that may die."""

    __pydantic_config__ = SECTION

    store: int = 7
    engine: int = 2
    crash: int = 2

    def __post_init__(self) -> None:
        for name in ("store", "engine", "crash"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """When a row is tried again, when it is given up, and when a run is.

    Waits double from ``first_wait_s`` to ``max_wait_s``. ``row_timeout_s`` is for the time of each of a row's requests
    in the engine, ``input_timeout_s`` for one try of reading an input image. A run ends when more than ``max_failures``
    rows have failed, a number or a percentage. If the engine of a worker fails on ``max_engine_streak`` rows in
    succession, the worker is to blame, or its settings. None: there is no such limit.
    """

    __pydantic_config__ = SECTION

    tries: Tries = Tries()
    first_wait_s: float = 1.0
    max_wait_s: float = 30.0
    row_timeout_s: float | None = None
    input_timeout_s: float | None = 300.0
    max_failures: int | str | None = None
    max_engine_streak: int | None = 32

    def __post_init__(self) -> None:
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
        return getattr(self.tries, failure_class, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """Sizes of what is committed together, and of what each worker has in flight at once.

    ``segment_rows`` None: so many that every worker gets some segments. ``max_rows_in_flight`` rows are read from the
    manifest and not yet stored. A segment is flushed after ``flush_rows`` finished rows, or ``flush_s`` after the first
    of them; None: not for that.
    """

    __pydantic_config__ = SECTION

    segment_rows: int | None = None
    max_rows_in_flight: int = 128
    fetch_threads: int = 8
    store_threads: int = 8
    flush_rows: int | None = None
    flush_s: float | None = 30.0

    def __post_init__(self) -> None:
        for name in ("segment_rows", "max_rows_in_flight", "fetch_threads", "store_threads", "flush_rows"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ConfigError(f"{name} must be at least 1, got {number}")
        if self.flush_s is not None and not self.flush_s > 0:
            raise ConfigError(f"flush_s must be above 0, got {self.flush_s:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLife:
    """Limits of one worker process.

    After SIGTERM a worker, and a driver with all of its workers, is gone within ``stop_deadline_s``: Kubernetes and
    Google's preemption leave 30 s before they kill. A worker without a heartbeat for ``hang_timeout_s`` is
    killed. One that has run ``max_rows`` rows, or for ``max_s``, or that has grown by ``max_growth_bytes`` since its
    second segment, finishes what it has begun and is replaced. None: there is no such limit.
    """

    __pydantic_config__ = SECTION

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
        scores: From a finished row to a number, by the name of the score.
        min_scores: Least scores of rows that are kept.
    """

    __pydantic_config__ = SECTION

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


ImageFormatName = Literal["png", "jpeg", "webp"]


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """How images are stored.

    Attributes:
        has_quality: Whether it is lossy, with a quality from 1 to 100.
        bytes_per_pixel: About so many, of generated images.
    """

    suffix: str
    content_type: str
    has_quality: bool
    bytes_per_pixel: float


IMAGE_FORMATS: Mapping[ImageFormatName, ImageFormat] = {
    "png": ImageFormat(".png", "image/png", has_quality=False, bytes_per_pixel=1.5),
    "jpeg": ImageFormat(".jpg", "image/jpeg", has_quality=True, bytes_per_pixel=0.35),
    "webp": ImageFormat(".webp", "image/webp", has_quality=True, bytes_per_pixel=0.25),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOutput:
    """How images are written; ``quality`` is for JPEG and WebP."""

    __pydantic_config__ = SECTION

    format: ImageFormatName = "png"
    quality: int = 95

    def __post_init__(self) -> None:
        if self.format not in IMAGE_FORMATS:
            raise ConfigError(f"format must be one of {', '.join(IMAGE_FORMATS)}, got {self.format!r}")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality must be from 1 to 100, got {self.quality}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CropSettings:
    """How input images are cropped before they are encoded; see ``Resolution``."""

    __pydantic_config__ = SECTION

    resolution: Resolution = 1024
    random_crop: bool = False

    def __post_init__(self) -> None:
        is_size = not isinstance(self.resolution, str) and self.resolution >= 32 and self.resolution % 32 == 0
        if not is_size and self.resolution not in ("adaptive", "native"):
            raise ConfigError(f"resolution must be a multiple of 32, adaptive or native, got {self.resolution!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderstandingInput(CropSettings):
    """How images that are read are cropped, and what ``score`` and ``best_of`` ask about them."""

    match_question: str = MATCH_QUESTION

    def __post_init__(self) -> None:
        CropSettings.__post_init__(self)
        if "{prompt}" not in self.match_question:
            raise ConfigError(f"match_question must contain {{prompt}}, got {self.match_question!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSettings:
    """What decides the results of a run, beside its model and its manifest.

    ``run.json`` is its serialisation (``jobs.run.identity``), and a start with others is refused.
    """

    device: str
    dtype: DtypeName
    seed: int = 0
    defaults: RowDefaults = field(default_factory=RowDefaults)
    image_to_image: CropSettings = CropSettings(resolution=512)
    understanding: UnderstandingInput = UnderstandingInput()
    tokenize: CropSettings = CropSettings()
    image: ImageOutput = ImageOutput()
    batch_invariance: BatchInvariance = "auto"
    compile: bool = False
    hooks: HookSettings = field(default_factory=HookSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How rows become results, and how many are in flight at once; all but ``results`` may differ between starts."""

    results: ResultSettings
    model: str  # a directory, or OWNER/NAME@COMMIT
    adapter: str | None = None  # likewise; a LoRA to merge into it
    output_uri: str
    run_digest: str = ""  # of what decides results, the manifest included; each part repeats it
    settings_digest: str = ""  # the same of this start, which may have been allowed to differ
    epoch: int = 1  # of the driver; see ``pipeline.output.epoch``
    sources: SourcePolicy = field(default_factory=SourcePolicy)
    engine: EngineConfig = field(default_factory=EngineConfig)
    pipeline: PipelineSettings = field(default_factory=PipelineSettings)
    failures: FailurePolicy = field(default_factory=FailurePolicy)
    life: WorkerLife = field(default_factory=WorkerLife)
    memory: MemoryNeed | None = None  # of a worker, to be checked where it is; None: it was
    is_dtype_fixed: bool = False  # by the run's earlier starts
