"""What a start keeps of its progress in the output: notes with each heartbeat, and its log."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Self

from jobs.progress.log import LOGGER
from jobs.progress.state import ProgressState
from pipeline.output.epoch import RunEpoch, log_key
from pipeline.storage.base import Store
from pipeline.storage.errors import StoreError

_MAX_LOG_BYTES = 2**20
_LOG_INTERVAL_S = 30.0

MAX_POINTS = 240
"""Points of the course of a run; where there would be more, every second is dropped and the interval doubled."""

_FIRST_INTERVAL_S = 5.0


class RunNote:
    """Takes points of a ``ProgressState`` as often as it changes, and calls ``tell`` with a note once per second."""

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


class OutputLog(logging.Handler):
    """Keeps what is reported while a start works as ``_epochs/<number>.log`` in the output, its last megabyte.

    A store that cannot be written is no reason to end a run, so its errors are passed over here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque()
        self._num_bytes = 0
        self._written_s = 0.0
        self._has_news = False
        self._target: tuple[Store, str] | None = None

    def __enter__(self) -> Self:
        LOGGER.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        LOGGER.removeHandler(self)
        self.write()

    def open(self, store: Store, epoch: RunEpoch) -> None:
        """Write to this output from now on, what was reported before too."""
        self._target = store, log_key(epoch.number)

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = f"{at} {record.levelname} {record.name} {record.getMessage()}\n"
        self._lines.append(line)
        self._num_bytes += len(line)
        while self._num_bytes > _MAX_LOG_BYTES:
            self._num_bytes -= len(self._lines.popleft())
        self._has_news = True

    def write_if_due(self) -> None:
        """Write it, if something is new and the last time is a while ago."""
        if time.monotonic() - self._written_s >= _LOG_INTERVAL_S:
            self.write()

    def write(self) -> None:
        """Write it, if something is new."""
        if self._target is None or not self._has_news:
            return
        store, key = self._target
        self._written_s, self._has_news = time.monotonic(), False
        with suppress(StoreError):
            store.put(key, "".join(self._lines).encode(), content_type="text/plain; charset=utf-8")
