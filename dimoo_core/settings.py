"""What one request asks of the sampler: sizes, steps, guidance, temperature.

Importable without torch, so that manifests can be checked on a laptop. How the settings are used
is in ``image_decoding`` and ``text_decoding``.
"""

import math
from dataclasses import dataclass
from typing import Literal

from dimoo_core.errors import ConfigError

PIXELS_PER_TOKEN = 16
"""Side of the square of pixels that one image token stands for (aMUSEd VQ, five levels)."""

MAX_SIDE_PX = 2048
"""Largest image side accepted; at 2048x2048 one image is 16,384 tokens."""

MAX_ANSWER_TOKENS = 16_384
"""Longest answer accepted: as long as the largest image. One absurd row must not exhaust a machine."""

MAX_STEPS = 16_384
"""Most steps accepted: one for each token of the largest image."""

Remasking = Literal["low_confidence", "random"]

Resolution = int | Literal["adaptive", "native"]
"""Crop input images to about this many pixels squared, a multiple of 32; the reference's scripts take 512 or 1024.

``adaptive`` is its benchmark wrapper's rule: 512 for smaller images, 1024 for larger ones, what lies between is kept.
``native`` keeps every image up to 1024x1024 pixels as it is, but for a rest beyond whole tokens; larger ones get 1024.
"""

DtypeName = Literal["float32", "bfloat16", "float16"]
"""Type of the transformer's weights and activations."""


def _require(is_valid: bool, name: str, value: object, allowed: str) -> None:
    if not is_valid:
        raise ConfigError(f"{name} must be {allowed}, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCacheConfig:
    """When an image may reuse what earlier steps computed; the defaults are those of the reference's ML-Cache.

    Changes results: fewer positions are computed. ``reuse_ratio`` is the share of positions that a step takes from the
    cache, in (0, 1). Steps up to ``warmup_ratio`` (in [0, 1]) of all compute everything, then one in
    ``refresh_interval`` does.
    """

    reuse_ratio: float = 0.9
    refresh_interval: int = 5
    warmup_ratio: float = 0.3

    def __post_init__(self) -> None:
        _require(0 < self.reuse_ratio < 1, "step_cache.reuse_ratio", self.reuse_ratio, "between 0 and 1")
        _require(self.refresh_interval >= 1, "step_cache.refresh_interval", self.refresh_interval, "at least 1")
        _require(0 <= self.warmup_ratio <= 1, "step_cache.warmup_ratio", self.warmup_ratio, "from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """How one image is generated; the defaults are those of the reference's scripts.

    ``temperature`` 0 is greedy. ``cfg_scale`` 0 is no guidance: Diffusers' ``guidance_scale`` is ``cfg_scale + 1``.
    ``cfg_image_scale`` guides towards the input images, where there are any. ``step_cache`` None computes everything.
    """

    width_px: int = 1024
    height_px: int = 1024
    num_steps: int = 64
    cfg_scale: float = 4.0
    cfg_image_scale: float = 0.0
    temperature: float = 1.0
    step_cache: StepCacheConfig | None = None

    def __post_init__(self) -> None:
        for name, side in (("width", self.width_px), ("height", self.height_px)):
            is_valid = side % PIXELS_PER_TOKEN == 0 and PIXELS_PER_TOKEN <= side <= MAX_SIDE_PX
            _require(is_valid, name, side, f"a multiple of {PIXELS_PER_TOKEN} from {PIXELS_PER_TOKEN} to {MAX_SIDE_PX}")
        _require(self.num_steps >= 1, "steps", self.num_steps, "at least 1")
        _require(self.num_steps <= MAX_STEPS, "steps", self.num_steps, f"at most {MAX_STEPS}")
        for name, scale in (("cfg_scale", self.cfg_scale), ("cfg_image_scale", self.cfg_image_scale)):
            _require(math.isfinite(scale) and scale >= 0, name, scale, "0 or more")
        _require(
            math.isfinite(self.temperature) and self.temperature >= 0, "temperature", self.temperature, "0 or more"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """How one answer is generated, block by block; the defaults are those of the reference's scripts.

    ``num_steps`` counts the steps of all blocks together. None means one step for each eight tokens, the reference's
    ratio, rounded up to a whole number of steps a block.
    """

    max_tokens: int = 1024
    block_length: int = 256
    num_steps: int | None = None
    cfg_scale: float = 0.0
    temperature: float = 0.0
    remasking: Remasking = "low_confidence"

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")
        _require(self.max_tokens <= MAX_ANSWER_TOKENS, "max_tokens", self.max_tokens, f"at most {MAX_ANSWER_TOKENS}")
        is_divisor = 1 <= self.block_length <= self.max_tokens and self.max_tokens % self.block_length == 0
        _require(is_divisor, "block_length", self.block_length, f"a divisor of max_tokens ({self.max_tokens})")
        if self.num_steps is not None:
            is_whole = self.num_steps >= 1 and self.num_steps % self.num_blocks == 0
            _require(is_whole, "steps", self.num_steps, f"a multiple of the number of blocks ({self.num_blocks})")
            _require(self.num_steps <= MAX_STEPS, "steps", self.num_steps, f"at most {MAX_STEPS}")
        _require(math.isfinite(self.cfg_scale) and self.cfg_scale >= 0, "cfg_scale", self.cfg_scale, "0 or more")
        _require(
            math.isfinite(self.temperature) and self.temperature >= 0, "temperature", self.temperature, "0 or more"
        )
        _require(
            self.remasking in ("low_confidence", "random"), "remasking", self.remasking, "'low_confidence' or 'random'"
        )

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
