"""The time limit of an acceptance run, shared among its turns: what no longer fits is refused with a reason."""

import time
from collections.abc import Callable, Mapping, Sequence


class TimeBudget:
    """Shares the time that is left among the turns that are: those that need little leave the rest to the others.

    Args:
        seconds: For everything, from now on.
        turns: For each turn, in order, the estimated seconds of each of its rows. What was measured corrects the
            estimates of the same contender.
        clock: Seconds; tests have one of their own.
    """

    def __init__(
        self,
        seconds: float,
        turns: Mapping[str, Mapping[str, float]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._end_s = clock() + seconds
        self._turns = {name: dict(rows) for name, rows in turns.items()}
        self._turn = ""
        self._turn_end_s = self._end_s
        self._spent_s = self._estimated_s = 0.0
        self._rows_run = 0

    def begin(self, turn: str, rows: set[str]) -> None:
        """Begin a turn, before anything is loaded for it; ``rows`` are those that it and the turns after it may run."""
        names = list(self._turns)
        later = names[names.index(turn) :]
        needs = [sum(seconds for row, seconds in self._turns[name].items() if row in rows) for name in later]
        left_s = max(0.0, self._end_s - self._clock())
        self._turn = turn
        self._turn_end_s = self._clock() + fair_share(needs[0], needs[1:], left_s)
        self._spent_s = self._estimated_s = 0.0
        self._rows_run = 0

    def refusal(self, row: str) -> str | None:
        """Why a row of the turn is not begun, or None. The first that fits the whole time left is begun."""
        now_s = self._clock()
        estimate_s = self._turns[self._turn][row] * self._correction()
        end_s = self._turn_end_s if self._rows_run else self._end_s
        if now_s + estimate_s <= end_s:
            return None
        return f"about {estimate_s:.0f} s more, and {max(0.0, end_s - now_s):.0f} s were left for {self._turn}"

    def ran(self, row: str, seconds: float) -> None:
        """Take note of a row's time."""
        self._spent_s += seconds
        self._estimated_s += self._turns[self._turn][row]
        self._rows_run += 1

    def _correction(self) -> float:
        return self._spent_s / self._estimated_s if self._estimated_s else 1.0


def fair_share(need: float, others: Sequence[float], total: float) -> float:
    """What one of several may take of a total: an equal part of what those that need less leave.

    What needs less than its part may take the part, too: needs are estimates. If there is more than all need, it is the
    larger of an equal part and one in proportion.
    """
    smallest_first, left = sorted((need, *others)), total
    for index, smallest in enumerate(smallest_first):
        part = left / (len(smallest_first) - index)
        if smallest > part:
            return part
        left -= smallest
    return max(total / len(smallest_first), total * need / sum(smallest_first) if need else 0.0)
