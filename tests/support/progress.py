"""A run's progress by a clock of the test's own."""

from jobs.progress.state import ProgressState
from pipeline.protocol.messages import WorkerProgress


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def state_of(num_rows: int = 100, num_resumed: int = 0, num_resumed_failed: int = 0) -> ProgressState:
    """Of two workers."""
    return ProgressState(
        num_rows=num_rows, num_resumed=num_resumed, num_workers=2, num_resumed_failed=num_resumed_failed
    )


def worked(num_done: int, num_failed: int = 0, busy_s: float = 1.0, span_s: float = 2.0) -> WorkerProgress:
    """What a worker says that has taken ten tokens a row."""
    return WorkerProgress(
        num_done=num_done,
        num_failed=num_failed,
        num_steps=1,
        num_tokens=10 * num_done,
        engine_busy_s=busy_s,
        engine_span_s=span_s,
    )
