"""Everything a worker has to know; small enough to be sent to each of them. Importable without torch and ray."""

from dataclasses import dataclass, field
from typing import Literal

from dimoo_core.errors import ConfigError
from dimoo_core.memory.need import MemoryNeed
from dimoo_core.request.templates import MATCH_QUESTION
from dimoo_core.settings import DtypeName, EngineConfig, Resolution
from manifests.row.settings import RowDefaults
from pipeline.protocol.failure_policy import FailurePolicy
from pipeline.protocol.flush_policy import FlushPolicy
from pipeline.protocol.hook_settings import HookSettings
from pipeline.protocol.source_policy import SourcePolicy
from pipeline.protocol.worker_life import WorkerLife

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
