"""What one image or caption costs under a preset: tokens and arithmetic, counted, and process time, measured."""

import gc
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch

from benchmarks.case import Case
from benchmarks.flop_comparison import Counting
from benchmarks.timing import Subject
from benchmarks.workload import sequence_lengths
from dimoo_core.request.request import Request

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one image or caption of a case, beside what the reference does for it; times by repeat, in seconds."""

    case: Case
    tokens: float  # through the transformer
    flops: float
    reference_tokens: int
    reference_flops: int
    reference_head_share: float
    process_s: list[float] = field(default_factory=list)
    plain_process_s: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the reference's arithmetic."""
        return self.flops / self.reference_flops

    @property
    def speedup(self) -> float:
        """Process time of the plain loop over the engine's: the median of the pairs."""
        return median(plain_s / mine_s for plain_s, mine_s in zip(self.plain_process_s, self.process_s, strict=True))


class CostCounter:
    """Counts at one shape; what was counted once is kept."""

    def __init__(self, counting: Counting) -> None:
        self._counting = counting
        self._plain_steps: dict[tuple[str, int], int] = {}

    def cost(self, case: Case) -> Cost:
        """A whole generation of the case, without times."""
        counted = self._counting.count(case.build(case.num_steps, _CPU))
        plain_request = case.build_plain(case.num_steps, _CPU)
        lengths, num_steps = sequence_lengths(plain_request), self._num_plain_steps(case, plain_request)
        reference = self._counting.reference(lengths) * num_steps
        return Cost(
            case=case,
            tokens=counted.num_tokens / case.batch,
            flops=counted.flops.total / case.batch,
            reference_tokens=sum(lengths) * num_steps,
            reference_flops=reference.total,
            reference_head_share=reference.head / reference.total,
        )

    def _num_plain_steps(self, case: Case, plain_request: Request) -> int:
        """Steps that a whole generation runs: a small image may be whole before its last one."""
        key = (case.unit, case.num_steps)
        if key not in self._plain_steps:
            self._plain_steps[key] = self._counting.count([plain_request]).num_steps
        return self._plain_steps[key]


def time_costs(
    subject: Subject, costs: Sequence[Cost], num_repeats: int, report: Callable[[str], None] = print
) -> None:
    """Measure the cases of one kind of work by turns, the plain loop among them, and put the times into their costs.

    Who goes first takes turns too.
    """
    plain_request = costs[0].case.build_plain(costs[0].case.num_steps, subject.device)
    subject.run_plain(costs[0].case.build_plain(costs[0].case.min_steps(), subject.device))  # warms libraries up
    order: deque[Cost | None] = deque([None, *costs])
    for repeat in range(num_repeats):
        for cost in order:
            gc.collect()
            if cost is None:
                plain_s = subject.run_plain(plain_request).process_s
                for each in costs:
                    each.plain_process_s.append(plain_s)
            else:
                run = subject.run_engine(cost.case.build(cost.case.num_steps, subject.device))
                cost.process_s.append(run.process_s / cost.case.batch)
        order.rotate()
        report(f"repeat {repeat + 1} of {num_repeats}: {_seconds(costs)}")


def _seconds(costs: Sequence[Cost]) -> str:
    engines = ", ".join(f"{cost.case.name} {cost.process_s[-1]:.2f}" for cost in costs)
    return f"process s each: plain {costs[0].plain_process_s[-1]:.2f}, {engines}"
