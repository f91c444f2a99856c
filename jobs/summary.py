"""What a finished run reports: one JSON object for programs, a few lines for people."""

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Outcome of one start of a run.

    ``rows`` counts the whole manifest (or the limit), ``resumed`` those that earlier starts had committed.
    ``engine_busy_ratio`` is the share of time, between each worker's first and last step, in which its engine worked,
    in [0, 1]; ``engine_wait_ratio`` is the share in which no row was ready for it. What is left to 1 was spent between
    steps. ``cache_hit_ratio`` is the share of the steps' tokens that were not computed since an earlier step had. All
    three are None if no step was run. ``cost_usd`` is that of the workers, if the job says what an hour costs.
    """

    status: Literal["done", "done_with_failures"]
    output: str
    rows: int
    done: int
    failed: int
    resumed: int
    wall_s: float
    rows_per_s: float
    engine_busy_ratio: float | None
    engine_wait_ratio: float | None
    tokens: int
    cache_hit_ratio: float | None
    cost_usd: float | None
    workers_lost: int

    @property
    def exit_code(self) -> int:
        """0: every row is done; 3: some failed."""
        return 0 if self.failed == 0 else 3

    def to_json(self) -> dict[str, object]:
        """For standard output."""
        return asdict(self)
