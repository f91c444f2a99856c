"""Which positions of an image one step looks at, when a step cache lets it look at only some.

A step decides the positions of the highest confidence: log-probability of the sampled id, plus noise. The noise belongs
to the request and is known before the step, and how probable the sampled id will be can be expected from the last time
a position was computed. So a step first foresees which positions it is about to decide, computes these, with some to
spare, and decides among them.

Dimensions: M masked positions, C chosen among them, N target positions.
"""

import math
from typing import Literal

from torch import Tensor

from dimoo_core.decoding.sampling import gumbel
from dimoo_core.settings import TargetCacheConfig

Pass = Literal["all", "target", "some"]
"""What a step computes of a sequence: all of it; the target and what follows it; positions of the target."""


class PassPlan:
    """What the steps of an image compute, one after the other; without a cache each computes all.

    Attributes:
        kind: The pass of the next step.
        since_refresh: Steps from the last one that computed every masked position to the next step; 0 if that does.
    """

    def __init__(self, num_steps: int, num_masked: int, config: TargetCacheConfig | None) -> None:
        self.kind: Pass = "all"
        self.since_refresh = 0
        self._config = config
        self._num_masked = num_masked
        self._num_steps = num_steps
        self._num_warm = int(num_steps * config.warmup_ratio) if config is not None else num_steps
        self._num_decided = 0  # since the last refresh
        self._num_unseen = 0  # decided since the prompt was last computed

    def advance(self, step: int, num_decided: int) -> None:
        """Move on to the step of this number, after one that decided so many positions."""
        self._num_decided += num_decided
        self._num_unseen += num_decided
        if self._config is None or step <= self._num_warm:
            self.kind = "all"
        elif self._num_decided < self._config.refresh_share * self._num_masked:
            self.kind = "some"
        else:
            self.kind = "target" if self._num_unseen < self._config.prompt_share * self._num_masked else "all"
        if self.kind == "some":
            self.since_refresh += 1
            return
        self.since_refresh = self._num_decided = 0
        if self.kind == "all":
            self._num_unseen = 0

    def is_reused_after(self, step: int) -> bool:
        """Whether a step after this one may compute less than everything."""
        if self._config is None or max(self._config.refresh_share, self._config.prompt_share) * self._num_masked <= 1:
            return False  # each step decides at least one position
        return self._num_steps - 1 > max(step, self._num_warm)


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
