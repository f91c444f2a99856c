"""Counts of right outputs by category, with intervals, as a table and as JSON."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Score:
    """How many outputs of one category are right, and what is wrong with the others."""

    task: str
    kind: str
    held_out: str | None = None
    right: int = 0
    total: int = 0
    mistakes: Counter[str] = field(default_factory=Counter)

    @property
    def ratio(self) -> float:
        """Share of right outputs, 0 to 1."""
        return self.right / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the share."""
        return wilson_interval(self.right, self.total)

    def add(self, mistake: str | None) -> None:
        """Count an output, right if there is no mistake."""
        self.total += 1
        if mistake is None:
            self.right += 1
        else:
            self.mistakes[mistake] += 1

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Score":
        """The score that ``to_json`` wrote."""
        counts = Counter({str(name): int(number) for name, number in raw["mistakes"].items()})
        return cls(raw["task"], raw["kind"], raw["held_out"], raw["right"], raw["total"], counts)

    def to_json(self) -> dict[str, Any]:
        """The score in JSON's types."""
        low, high = self.interval
        return {
            "task": self.task,
            "kind": self.kind,
            "held_out": self.held_out,
            "right": self.right,
            "total": self.total,
            "ratio": round(self.ratio, 5),
            "interval": [round(low, 5), round(high, 5)],
            "mistakes": dict(self.mistakes.most_common()),
        }


def mean_interval(values: Sequence[float], z: float = 1.96) -> tuple[float, float, float]:
    """The mean of values and its interval, as they are spread; of paired differences, whether there is one."""
    count, mean = len(values), sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, count - 1)
    margin = z * math.sqrt(variance / count)
    return mean, mean - margin, mean + margin


def wilson_interval(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Bounds of a binomial share.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference, eq. for the score
    interval without continuity correction.
    """
    if total == 0:
        return 0.0, 1.0
    share = right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, centre - half), min(1.0, centre + half)


def summed(scores: Iterable[Score]) -> list[Score]:
    """One score for each task, in order of appearance, over all its kinds."""
    of_task: dict[str, Score] = {}
    for score in scores:
        whole = of_task.setdefault(score.task, Score(score.task, "all", score.held_out))
        whole.right += score.right
        whole.total += score.total
        whole.mistakes += score.mistakes
    return list(of_task.values())


def table(scores: Iterable[Score]) -> str:
    """Lines of a table in Markdown."""
    lines = ["| task | kind | right | % | 95% interval | mistakes |", "| --- | --- | --- | --- | --- | --- |"]
    for score in scores:
        low, high = score.interval
        kind = f"{score.kind}, {score.held_out} held out" if score.held_out else score.kind
        mistakes = ", ".join(f"{name} {number}" for name, number in score.mistakes.most_common(4))
        lines.append(
            f"| {score.task} | {kind} | {score.right:,} of {score.total:,} | {100 * score.ratio:.1f} "
            f"| {100 * low:.1f} to {100 * high:.1f} | {mistakes} |"
        )
    return "\n".join(lines)


def report_tables(scores: Sequence[Score]) -> str:
    """Every category, the sums by task, and apart from them what training never shows."""
    seen = [score for score in scores if score.held_out is None]
    held_out = [score for score in scores if score.held_out is not None]
    tables = [table([*seen, *summed(seen)])] if seen else []
    return "\n\n".join([*tables, table(held_out)] if held_out else tables)
