"""Which positions of an image a step looks at, when a step cache lets it look at some only.

A step decides the positions of the highest confidence: log-probability of the sampled id, plus noise. The noise belongs
to the request and is known before the step, and how probable the sampled id will be can be expected from the last time
a position was computed. So a step first foresees which positions it is about to decide, computes these, with some to
spare, and decides among them.

Dimensions: M masked positions, C chosen among them, N target positions.
"""

import math
from typing import Literal

from torch import Tensor

from dimoo_core.sampling import gumbel
from dimoo_core.settings import TargetCacheConfig

Pass = Literal["all", "target", "some"]
"""What a step computes of a stream: all of it; the target and what follows it; positions of the target."""


def image_passes(num_steps: int, config: TargetCacheConfig | None) -> tuple[Pass, ...]:
    """The pass of each step; without a cache every step computes all."""
    if config is None:
        return tuple[Pass, ...](["all"] * num_steps)
    warmup = int(num_steps * config.warmup_ratio)
    passes: list[Pass] = []
    for step in range(num_steps):
        number, since = divmod(step - warmup, config.refresh_interval)
        if step <= warmup or (since == 0 and config.prompt_interval and number % config.prompt_interval == 0):
            passes.append("all")
        else:
            passes.append("some" if since else "target")
    return tuple(passes)


def steps_since_refresh(passes: tuple[Pass, ...], step: int) -> int:
    """How long ago every masked position was last computed; 0 if this step computes them all."""
    return next(since for since in range(step + 1) if passes[step - since] != "some")


def num_looked_at(num_masked: int, num_decided: int, config: TargetCacheConfig) -> int:
    """Masked positions that a step computes to decide ``num_decided`` of them."""
    wanted = max(math.ceil(config.lookahead * num_decided), math.ceil(config.compute_ratio * num_masked))
    return min(num_masked, wanted)


def foreseen(expected_M: Tensor, uniform_M: Tensor, temperature: float, count: int) -> Tensor:
    """Ascending rows of the ``count`` masked positions that are most likely decided.

    Args:
        expected_M: Expected log-probability of the id to be sampled, as of each position's last computation.
        uniform_M: The step's noise for confidences.
        temperature: Its scale.
        count: At most M.
    """
    return (expected_M + temperature * gumbel(uniform_M)).topk(count).indices.sort().values


def without_rows(positions_M: Tensor, rows_C: Tensor, num_target: int) -> Tensor:
    """``positions_M``, ascending, without the given rows; no device is waited for: its length is known."""
    left_M = positions_M.scatter(0, rows_C, num_target)
    return left_M.sort().values[: len(positions_M) - len(rows_C)]
