"""Quality against cost: measured points, the curve of fewer steps, and which points lie above it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.contender import Contender

Verdict = Literal["above", "not told apart", "below", "beyond the curve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """How often one contender was right, and what one output cost."""

    contender: Contender
    right: tuple[bool, ...]  # of each example; all contenders of a unit have the same ones, with the same noise
    flops: float  # of one output
    tokens: float  # through the transformer, of one output

    @property
    def accuracy(self) -> float:
        """Share of right outputs."""
        return sum(self.right) / len(self.right)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One point against the exact computation in fewer steps at the same cost; accuracies are shares."""

    point: Point
    curve_accuracy: float | None  # None where no number of steps costs as little
    margin: float  # half the width of the 95% interval of the difference
    verdict: Verdict

    @property
    def gain(self) -> float | None:
        """Accuracy above the curve."""
        return None if self.curve_accuracy is None else self.point.accuracy - self.curve_accuracy


def judge_points(points: Sequence[Point]) -> list[Judgement]:
    """Every point that is no point of the curve itself; the curve is straight in the logarithm of the cost."""
    curve = sorted((point for point in points if point.contender.kind == "steps"), key=lambda point: point.flops)
    return [_judge(point, curve) for point in points if point.contender.kind != "steps"]


def _judge(point: Point, curve: Sequence[Point]) -> Judgement:
    if point.flops < curve[0].flops:
        return Judgement(point=point, curve_accuracy=None, margin=0.0, verdict="beyond the curve")
    weights = _weights(point.flops, [each.flops for each in curve])
    differences = [
        float(mine) - sum(weight * each.right[index] for weight, each in zip(weights, curve, strict=True))
        for index, mine in enumerate(point.right)
    ]
    count, gain = len(differences), sum(differences) / len(differences)
    variance = sum((each - gain) ** 2 for each in differences) / max(1, count - 1)
    margin = 1.96 * math.sqrt(variance / count)
    verdict: Verdict = "not told apart" if abs(gain) <= margin else "above" if gain > 0 else "below"
    return Judgement(point=point, curve_accuracy=point.accuracy - gain, margin=margin, verdict=verdict)


def _weights(flops: float, costs: Sequence[float]) -> list[float]:
    """How much each point of the curve counts at this cost; beyond its dear end, that end alone."""
    weights = [0.0] * len(costs)
    if flops >= costs[-1]:
        weights[-1] = 1.0
        return weights
    after = next(index for index, cost in enumerate(costs) if cost > flops)
    low, high = costs[after - 1], costs[after]
    weights[after] = math.log(flops / low) / math.log(high / low)
    weights[after - 1] = 1 - weights[after]
    return weights
