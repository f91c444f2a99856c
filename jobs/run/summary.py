"""What a finished run reports: one JSON object for programs, a few lines for people."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Self

from jobs.progress.progress import ProgressState
from pipeline.output.results import RunTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Outcome of one start of a run.

    ``rows`` counts the whole manifest (or the limit), ``resumed`` those that earlier starts had committed, ``failures``
    the failed ones by their class. ``rows_per_s`` is of the rows of this start, since the first worker had its model
    loaded: unlike ``wall_s`` it is without what comes before and after.
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
    failures: dict[str, int]
    resumed: int
    wall_s: float
    rows_per_s: float
    engine_busy_ratio: float | None
    engine_wait_ratio: float | None
    tokens: int
    cache_hit_ratio: float | None
    cost_usd: float | None
    workers_lost: int

    @classmethod
    def of(
        cls,
        state: ProgressState,
        output: str,
        totals: RunTotals,
        *,
        failures: Mapping[str, int],
        num_rows: int,
        num_resumed: int,
        num_workers_lost: int,
        wall_s: float,
    ) -> Self:
        """The summary of what ``state`` has followed.

        Args:
            state: Of this start alone.
            output: Of the run.
            totals: Of the whole output, with what this start has added.
            failures: Failed rows of the whole output by their class.
            num_rows: Of the manifest, or the limit.
            num_resumed: Rows that earlier starts had committed.
            num_workers_lost: Workers that died.
            wall_s: Since the command was given.
        """
        return cls(
            status="done" if totals.num_failed == 0 else "done_with_failures",
            output=output,
            rows=num_rows,
            done=totals.num_done,
            failed=totals.num_failed,
            failures=dict(sorted(failures.items())),
            resumed=num_resumed,
            wall_s=round(wall_s, 3),
            rows_per_s=round(state.rows_per_s, 3),
            engine_busy_ratio=_rounded(state.engine_busy_ratio),
            engine_wait_ratio=_rounded(state.engine_wait_ratio),
            tokens=state.num_tokens,
            cache_hit_ratio=_rounded(state.cache_hit_ratio),
            cost_usd=_rounded(state.cost_usd),
            workers_lost=num_workers_lost,
        )

    @property
    def exit_code(self) -> int:
        """0: every row is done; 3: some failed."""
        return 0 if self.failed == 0 else 3

    def to_json(self) -> dict[str, object]:
        """For standard output."""
        return asdict(self)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
