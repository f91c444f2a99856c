"""Settings of a request (sizes, steps, guidance, temperature) and of the engine (batching).

Importable without torch, so that manifests can be checked on a laptop. How they are used is in ``decoding`` and
``engine``.
"""

import math
from dataclasses import dataclass
from typing import Literal

from dimoo_core.errors import ConfigError

SECTION = {"extra": "forbid", "strict": True}
"""``__pydantic_config__`` of dataclasses that a job spec has as sections: an unknown key is an error."""

BatchInvariance = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How requests are batched; no setting here changes what a request means.

    ``max_step_tokens`` limits the tokens of one forward pass, all sequences of all requests that make a step together.
    ``max_cache_bytes`` limits what running requests keep between steps; None asks the machine when the engine starts.
    A running request makes a step at least every ``max_step_interval`` steps of the engine. The more, the better steps
    are filled with requests that compute little most of the time.
    ``batch_invariance`` sets whether a row's logits are the same, bit for bit, in every batch: ``auto`` is on for
    CPUs, where it costs next to nothing, and off for CUDA, where it means fixed tiles.
    ``compile`` has norms, rotations and gates computed by kernels that torch's compiler writes for this machine when
    they are first needed. What they compute may depend on the batch in the last bit, so ``auto`` is off with them.
    """

    __pydantic_config__ = SECTION

    max_step_tokens: int = 16_384
    max_cache_bytes: int | None = None
    max_step_interval: int = 16
    batch_invariance: BatchInvariance = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.max_step_tokens < 1:
            raise ConfigError(f"engine.max_step_tokens must be at least 1, got {self.max_step_tokens}")
        if self.max_cache_bytes is not None and self.max_cache_bytes < 0:
            raise ConfigError(f"engine.max_cache_bytes must be 0 or more, got {self.max_cache_bytes}")
        if self.max_step_interval < 4:
            raise ConfigError(f"engine.max_step_interval must be at least 4, got {self.max_step_interval}")
        if self.batch_invariance not in ("auto", "on", "off"):
            raise ConfigError(f"engine.batch_invariance must be auto, on or off, got {self.batch_invariance!r}")
        if self.compile and self.batch_invariance == "on":
            raise ConfigError("engine.compile and engine.batch_invariance=on exclude each other: leave one away")


PIXELS_PER_TOKEN = 16
"""Side of the square of pixels that one image token stands for (aMUSEd VQ, five levels)."""

MAX_SIDE_PX = 2048
"""Largest image side accepted; at 2048x2048 one image is 16,384 tokens."""

MAX_ANSWER_TOKENS = 16_384
"""Longest answer accepted: as long as the largest image. One absurd row must not exhaust a machine."""

MAX_POSITIONS = 32_768
"""Longest sequence accepted, prompt, input images and result together: the largest image and as much again to read."""

MAX_STEPS = 16_384
"""Most steps accepted: one for each token of the largest image."""

MAX_SCALE = 1e15
"""Largest guidance scale and image temperature accepted, and one over the smallest temperature.

With all of them at once, logits of ten million stay within float32.
"""

MAX_TEXT_TEMPERATURE = 16.0
"""Largest temperature of answers: of the noise ``(-log u) ** temperature`` the smallest is 5e-256 then, in float64."""

Remasking = Literal["low_confidence", "random"]

Resolution = int | Literal["adaptive", "native"]
"""Crop input images to about this many pixels squared, a multiple of 32; the reference's scripts take 512 or 1024.

``adaptive`` is its benchmark wrapper's rule: 512 for smaller images, 1024 for larger ones, what is between is
kept; each of several images that are read together gets 512.
``native`` keeps every image up to 1024x1024 pixels as it is, but for a rest beyond whole tokens; larger ones get 1024.
"""

DtypeName = Literal["float32", "bfloat16", "float16", "float8"]
"""Type of the transformer's weights and activations; of ``float8`` only the matrices of its layers are, see there."""


def _require(is_valid: bool, name: str, value: object, allowed: str) -> None:
    if not is_valid:
        raise ConfigError(f"{name} must be {allowed}, got {value!r}")


def _require_scale(name: str, scale: float) -> None:
    _require(math.isfinite(scale) and scale >= 0, name, scale, "0 or more")
    _require(scale <= MAX_SCALE, name, scale, f"at most {MAX_SCALE:g}")


def _require_temperature(temperature: float, largest: float) -> None:
    _require(math.isfinite(temperature) and temperature >= 0, "temperature", temperature, "0 or more")
    is_valid = temperature == 0 or 1 / MAX_SCALE <= temperature <= largest
    _require(is_valid, "temperature", temperature, f"0 or from {1 / MAX_SCALE:g} to {largest:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCacheConfig:
    """When an image may reuse what earlier steps computed; the defaults are those of the reference's ML-Cache.

    Changes results: fewer positions are computed. ``reuse_ratio`` is the share of positions that a step takes from the
    cache, in (0, 1). Steps up to ``warmup_ratio`` (in [0, 1]) of all compute everything, then one in
    ``refresh_interval`` does.
    """

    __pydantic_config__ = SECTION

    mode: Literal["reference"] = "reference"
    reuse_ratio: float = 0.9
    refresh_interval: int = 5
    warmup_ratio: float = 0.3

    def __post_init__(self) -> None:
        _require(0 < self.reuse_ratio < 1, "reuse_ratio", self.reuse_ratio, "between 0 and 1")
        _require(self.refresh_interval >= 1, "refresh_interval", self.refresh_interval, "at least 1")
        _require(0 <= self.warmup_ratio <= 1, "warmup_ratio", self.warmup_ratio, "from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCacheConfig:
    """When an image may reuse what earlier steps computed, if only its target is looked at.

    Changes results. Steps up to ``warmup_ratio`` (in [0, 1]) of all compute everything. After that a step computes the
    whole image if since the last time at least ``refresh_share`` (in (0, 1]) of all that is to be decided was decided,
    and with it the prompt and its input images if that is so of ``prompt_share`` (in (0, 1]; 1 is never again). The
    other steps compute what the last step decided, and of the masked positions those that they are about to decide:
    ``lookahead`` (at least 1) for each one, and no less than ``compute_ratio`` (in [0, 1]) of them. Only what was
    computed is decided.
    """

    __pydantic_config__ = SECTION

    mode: Literal["target"] = "target"
    warmup_ratio: float = 0.0
    refresh_share: float = 1 / 16
    prompt_share: float = 1 / 4
    lookahead: float = 3.0
    compute_ratio: float = 0.05

    def __post_init__(self) -> None:
        _require(0 <= self.warmup_ratio <= 1, "warmup_ratio", self.warmup_ratio, "from 0 to 1")
        for name, share in (("refresh_share", self.refresh_share), ("prompt_share", self.prompt_share)):
            _require(0 < share <= 1, name, share, "above 0 and at most 1")
        is_valid = math.isfinite(self.lookahead) and self.lookahead >= 1
        _require(is_valid, "lookahead", self.lookahead, "at least 1")
        _require(self.lookahead <= MAX_SCALE, "lookahead", self.lookahead, f"at most {MAX_SCALE:g}")
        _require(0 <= self.compute_ratio <= 1, "compute_ratio", self.compute_ratio, "from 0 to 1")


TextCacheMode = Literal["prefix", "dual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCacheConfig:
    """What an answer may reuse of earlier steps.

    Changes results. The first step computes everything. The first step of each later block computes the answer from
    the block before it on, and the prompt with its images too in every ``prompt_interval``-th block (0: in none).
    The other steps compute the block (``dual``), or the block and all that follows it (``prefix``), except that
    every ``refresh_interval``-th step of a block computes everything (0: none does, 1: all do).
    """

    __pydantic_config__ = SECTION

    mode: TextCacheMode = "dual"
    prompt_interval: int = 0
    refresh_interval: int = 0

    def __post_init__(self) -> None:
        _require(self.mode in ("prefix", "dual"), "mode", self.mode, "'prefix' or 'dual'")
        _require(self.prompt_interval >= 0, "prompt_interval", self.prompt_interval, "0 or more")
        _require(self.refresh_interval >= 0, "refresh_interval", self.refresh_interval, "0 or more")


CommitRule = Literal["confidence", "entropy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelCommit:
    """When a step may commit more than its share, so that later steps need not run.

    Changes results. ``confidence``: every position whose sampled token is at least ``bound`` (in (0, 1]) probable.
    ``entropy``: the most confident positions as long as the entropies of all of them but the largest add up to at
    most ``bound`` (0 or more, in nats).
    """

    __pydantic_config__ = SECTION

    rule: CommitRule = "confidence"
    bound: float

    def __post_init__(self) -> None:
        _require(self.rule in ("confidence", "entropy"), "rule", self.rule, "'confidence' or 'entropy'")
        if self.rule == "confidence":
            _require(0 < self.bound <= 1, "bound", self.bound, "above 0 and at most 1 for rule 'confidence'")
        else:
            is_valid = math.isfinite(self.bound) and self.bound >= 0
            _require(is_valid, "bound", self.bound, "0 or more for rule 'entropy'")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """How one image is generated; the defaults are those of the reference's scripts.

    ``temperature`` 0 is greedy. ``cfg_scale`` 0 is no guidance: Diffusers' ``guidance_scale`` is ``cfg_scale + 1``.
    ``cfg_image_scale`` guides towards the input images, where there are any. ``step_cache`` None computes everything.
    Sequences without prompt or images are computed every ``uncond_interval``-th step and whenever a
    ``TargetCacheConfig`` refreshes; in between the difference that they made is kept. ``commit`` None decides at each
    step what is scheduled.
    """

    __pydantic_config__ = SECTION

    width_px: int = 1024
    height_px: int = 1024
    num_steps: int = 64
    cfg_scale: float = 4.0
    cfg_image_scale: float = 0.0
    temperature: float = 1.0
    step_cache: StepCacheConfig | TargetCacheConfig | None = None
    uncond_interval: int = 1
    commit: ParallelCommit | None = None

    def __post_init__(self) -> None:
        for name, side in (("width", self.width_px), ("height", self.height_px)):
            is_valid = side % PIXELS_PER_TOKEN == 0 and PIXELS_PER_TOKEN <= side <= MAX_SIDE_PX
            _require(is_valid, name, side, f"a multiple of {PIXELS_PER_TOKEN} from {PIXELS_PER_TOKEN} to {MAX_SIDE_PX}")
        _require(self.num_steps >= 1, "steps", self.num_steps, "at least 1")
        _require(self.num_steps <= MAX_STEPS, "steps", self.num_steps, f"at most {MAX_STEPS}")
        for name, scale in (("cfg_scale", self.cfg_scale), ("cfg_image_scale", self.cfg_image_scale)):
            _require_scale(name, scale)
        _require_temperature(self.temperature, MAX_SCALE)
        _require(self.uncond_interval >= 1, "uncond_interval", self.uncond_interval, "at least 1")
        if isinstance(self.step_cache, StepCacheConfig):
            _require(self.uncond_interval == 1, "uncond_interval", self.uncond_interval, "1 with the reference's cache")
            _require(self.commit is None, "commit", self.commit, "none with the reference's cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """How one answer is generated, block by block; the defaults are those of the reference's scripts.

    ``num_steps`` counts the steps of all blocks together. None means one step for each eight tokens, the reference's
    ratio, rounded up to a whole number of steps a block. ``cache`` None computes everything at each step; ``commit``
    None decides at each step its even share.
    """

    __pydantic_config__ = SECTION

    max_tokens: int = 1024
    block_length: int = 256
    num_steps: int | None = None
    cfg_scale: float = 0.0
    temperature: float = 0.0
    remasking: Remasking = "low_confidence"
    cache: TextCacheConfig | None = None
    commit: ParallelCommit | None = None

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")
        _require(self.max_tokens <= MAX_ANSWER_TOKENS, "max_tokens", self.max_tokens, f"at most {MAX_ANSWER_TOKENS}")
        is_divisor = 1 <= self.block_length <= self.max_tokens and self.max_tokens % self.block_length == 0
        _require(is_divisor, "block_length", self.block_length, f"a divisor of max_tokens ({self.max_tokens})")
        if self.num_steps is not None:
            is_whole = self.num_steps >= 1 and self.num_steps % self.num_blocks == 0
            _require(is_whole, "steps", self.num_steps, f"a multiple of the number of blocks ({self.num_blocks})")
            _require(self.num_steps <= MAX_STEPS, "steps", self.num_steps, f"at most {MAX_STEPS}")
        _require_scale("cfg_scale", self.cfg_scale)
        _require_temperature(self.temperature, MAX_TEXT_TEMPERATURE)
        _require(
            self.remasking in ("low_confidence", "random"), "remasking", self.remasking, "'low_confidence' or 'random'"
        )
        if self.commit is not None:
            allowed = "'low_confidence' where commit is given"
            _require(self.remasking == "low_confidence", "remasking", self.remasking, allowed)

    @property
    def num_blocks(self) -> int:
        """Blocks of the answer, decoded one after the other."""
        return self.max_tokens // self.block_length

    @property
    def steps_per_block(self) -> int:
        """Denoising steps of each block."""
        if self.num_steps is not None:
            return self.num_steps // self.num_blocks
        return math.ceil(self.block_length / 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceSettings:
    """How given answers are weighed against each other in one forward pass.

    ``max_tokens`` is how many masks stand for the answer; None are as many as the longest one needs.
    """

    max_tokens: int | None = None
    cfg_scale: float = 0.0

    def __post_init__(self) -> None:
        length = 1 if self.max_tokens is None else self.max_tokens
        _require(1 <= length <= MAX_ANSWER_TOKENS, "max_tokens", length, f"from 1 to {MAX_ANSWER_TOKENS}")
        _require_scale("cfg_scale", self.cfg_scale)
