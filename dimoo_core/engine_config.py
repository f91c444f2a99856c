"""How the engine batches. Importable without torch."""

from dataclasses import dataclass
from typing import Literal

from dimoo_core.errors import ConfigError

BatchInvariance = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How requests are batched; no setting here changes what a request means.

    ``max_step_tokens`` limits the tokens of one forward pass, all streams of all requests that make a step together.
    ``max_cache_bytes`` limits what running requests keep between steps; None asks the machine when the engine starts.
    A running request makes a step at least every ``max_step_interval`` steps of the engine. The more, the better steps
    are filled with requests that compute little most of the time.
    ``max_request_s`` ends a request that has run for longer, in seconds since its first step; None: never.
    ``batch_invariance`` says whether a row's logits are the same, bit for bit, in every batch: ``auto`` is on for
    CPUs, where it costs next to nothing, and off for CUDA, where it means fixed tiles.
    ``compile`` has norms, rotations and gates computed by kernels that torch's compiler writes for this machine when
    they are first needed. What they compute may depend on the batch in the last bit, so ``auto`` is off with them.
    """

    max_step_tokens: int = 16_384
    max_cache_bytes: int | None = None
    max_step_interval: int = 16
    batch_invariance: BatchInvariance = "auto"
    compile: bool = False
    max_request_s: float | None = None

    def __post_init__(self) -> None:
        if self.max_step_tokens < 1:
            raise ConfigError(f"engine.max_step_tokens must be at least 1, got {self.max_step_tokens}")
        if self.max_request_s is not None and not self.max_request_s > 0:
            raise ConfigError(f"the time of a request must be above 0 s, got {self.max_request_s}")
        if self.max_cache_bytes is not None and self.max_cache_bytes < 0:
            raise ConfigError(f"engine.max_cache_bytes must be 0 or more, got {self.max_cache_bytes}")
        if self.max_step_interval < 4:
            raise ConfigError(f"engine.max_step_interval must be at least 4, got {self.max_step_interval}")
        if self.batch_invariance not in ("auto", "on", "off"):
            raise ConfigError(f"engine.batch_invariance must be auto, on or off, got {self.batch_invariance!r}")
        if self.compile and self.batch_invariance == "on":
            raise ConfigError("engine.compile and engine.batch_invariance=on exclude each other: leave one away")
