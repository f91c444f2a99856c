"""How evenly rows get done, and how sure the time to go therefore is."""

import math
import time
from collections import deque
from itertools import pairwise

_INTERVAL_S = 5.0
_MAX_POINTS = 61
_MIN_RATES = 5  # before these the spread says more about the beginning than about the run
_STANDARD_ERRORS = 2.0


def error_of_count(num_rows: int) -> float:
    """How far a rate may be off, by that rate, of which no more is known than how many rows it is of."""
    return _STANDARD_ERRORS / math.sqrt(num_rows)


class RateRecord:
    """Rows settled over time, a point every five seconds; the latest sixty intervals count."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque(maxlen=_MAX_POINTS)

    def is_due(self) -> bool:
        """Whether the time of the next point has come."""
        return not self._points or time.monotonic() - self._points[-1][0] >= _INTERVAL_S

    def take(self, num_settled: int) -> None:
        """So many rows are settled now, when a point is due."""
        self._points.append((time.monotonic(), num_settled))

    @property
    def relative_error(self) -> float | None:
        """Twice the standard error of the mean rate, by that rate; None while there are too few intervals."""
        points = list(self._points)
        rates = [(rows - before) / (at - then) for (then, before), (at, rows) in pairwise(points)]
        mean = sum(rates) / len(rates) if rates else 0.0
        if len(rates) < _MIN_RATES or mean <= 0:
            return None
        variance = sum((rate - mean) ** 2 for rate in rates) / (len(rates) - 1)
        return _STANDARD_ERRORS * math.sqrt(variance / len(rates)) / mean
