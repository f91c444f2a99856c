"""Counts over every row of a run, in memory that does not grow with their number."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.report.row import ReportRow

_MAX_KINDS = 1000
_MAX_MESSAGE_CHARS = 300


@dataclass(slots=True)
class Histogram:
    """Counts of numbers in buckets that grow with them, about a tenth wide; exact for whole numbers up to 20."""

    buckets: Counter[int] = field(default_factory=Counter)
    least: float = math.inf
    most: float = -math.inf
    total: float = 0.0

    @property
    def count(self) -> int:
        """Numbers counted."""
        return self.buckets.total()

    @property
    def mean(self) -> float:
        """Their mean; 0 if there are none."""
        return self.total / self.count if self.count else 0.0

    def add(self, value: float) -> None:
        """Count one, which must not be negative."""
        self.buckets[round(value) if value <= 20 else 20 + round(10 * math.log(value / 20))] += 1
        self.least, self.most = min(self.least, value), max(self.most, value)
        self.total += value

    def bars(self, num_bars: int) -> list[tuple[float, float, int]]:
        """``(from, to, count)`` of about ``num_bars`` ranges of equal width over everything counted."""
        if not self.count:
            return []
        low, high = self.least, max(self.most, self.least + 1)
        width = (high - low) / num_bars
        bars = [[low + index * width, low + (index + 1) * width, 0] for index in range(num_bars)]
        for bucket, count in self.buckets.items():
            value = float(bucket) if bucket <= 20 else 20 * math.exp((bucket - 20) / 10)
            bars[min(num_bars - 1, max(0, int((value - low) / width)))][2] += count
        return [(start, end, int(count)) for start, end, count in bars]


@dataclass(slots=True)
class RunStatistics:
    """The numbers of the plots and the card; ``examples`` are row and message of the first failure of each kind."""

    num_done: int = 0
    num_failed: int = 0
    num_images: int = 0
    num_texts: int = 0
    image_bytes: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    steps: Counter[int] = field(default_factory=Counter)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    file_kib: Histogram = field(default_factory=Histogram)
    text_words: Histogram = field(default_factory=Histogram)
    score_percent: Histogram = field(default_factory=Histogram)

    def add(self, row: ReportRow) -> None:
        """Count a row in."""
        if not row.is_done:
            self.num_failed += 1
            kind = row.stage, row.error_type
            self._count(self.failures, kind)
            if kind in self.failures:
                self.examples.setdefault(kind, (row.row, row.message[:_MAX_MESSAGE_CHARS]))
            return
        self.num_done += 1
        self._count(self.tasks, row.task)
        self._count(self.steps, int(row.settings.get("steps", 0)))
        if row.image is not None:
            self.num_images += 1
            self._count(self.sizes, f"{row.width} x {row.height}")
            self.image_bytes += row.num_bytes or 0
            self.file_kib.add((row.num_bytes or 0) / 1024)
        if row.text is not None:
            self.num_texts += 1
            self.text_words.add(len(row.text.split()))
        if row.score is not None and row.score >= 0:
            self.score_percent.add(100 * row.score)

    @staticmethod
    def _count(counter: Counter[Any], key: Hashable) -> None:
        if key in counter or len(counter) < _MAX_KINDS:
            counter[key] += 1


def most_common(counter: Mapping[str, int], limit: int) -> list[tuple[str, int]]:
    """The largest counts in order, and the rest as one."""
    ordered = sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in ordered[limit:])
    return [*ordered[:limit], *([("others", rest)] if rest else [])]
