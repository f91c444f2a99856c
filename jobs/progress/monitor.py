"""Notes of a run's progress, as its driver writes them with each heartbeat."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from jobs.progress.state import ProgressState

MAX_POINTS = 240
"""Points of the course of a run; where there would be more, every second is dropped and the interval doubled."""

_FIRST_INTERVAL_S = 5.0


class RunNote:
    """Takes points of a ``ProgressState``, as often as it changes, and gives them to ``tell``.

    Args:
        state: What is noted.
        tell: Takes a note; called at most once a second.
    """

    def __init__(self, state: ProgressState, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self._state = state
        self._tell = tell
        self._started_s = time.monotonic()
        self._interval_s = _FIRST_INTERVAL_S
        self._told_s = -1.0
        self._points: list[list[float]] = []

    def refresh(self, *, is_last: bool = False) -> bool:
        """The state may have changed; whether it was time for another note."""
        now_s = time.monotonic() - self._started_s
        if not is_last and self._told_s >= 0 and now_s - self._told_s < 1.0:
            return False
        self._told_s = now_s
        if is_last or not self._points or now_s - self._points[-1][0] >= self._interval_s:
            self._add_point(now_s)
        self._tell(self._note())
        return True

    def _add_point(self, now_s: float) -> None:
        state = self._state
        self._points.append(
            [round(now_s, 1), state.num_completed, state.num_tokens, state.num_steps, round(state.engine_busy_s, 2)]
        )
        if len(self._points) > MAX_POINTS:
            self._points = self._points[::2]
            self._interval_s *= 2

    def _note(self) -> dict[str, Any]:
        state = self._state
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "rows": state.num_rows,
            "settled": state.num_completed,
            "committed": state.num_committed,
            "failed": state.num_failed,
            "rows_per_s": round(state.rows_per_s, 4),
            "eta_error_s": None if (error := state.eta_error_s) is None else round(error, 1),
            "tokens": state.num_tokens,
            "engine_busy_ratio": state.engine_busy_ratio,
            "workers": state.worker_notes(),
            "workers_lost": state.num_lost,
            "points": [list(point) for point in self._points],
        }
