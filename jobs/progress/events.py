"""Events of a run, of one schema: what the panel, plain lines, the log and ``--log-json`` show comes from these.

An event is a mapping with ``event`` (run, segment, row, worker or progress), ``state``, mostly ``worker``, and the
fields of its class. A new kind of event is a dataclass and a line of the table.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from jobs.progress.state import ProgressState
from manifests.errors import RowFailure
from pipeline.protocol.messages import (
    Event,
    SegmentCommitted,
    SegmentHeldBack,
    SegmentRepeated,
    WorkerDied,
    WorkerDrained,
    WorkerDraining,
    WorkerEnded,
    WorkerFailed,
    WorkerProgress,
    WorkerReady,
)

log = logging.getLogger("dimoo_batch.jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBegun:
    """Workers are about to start."""

    output: str
    rows: int
    rows_committed: int
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """Every segment is committed."""

    output: str
    done: int
    failed: int
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """Counts of now; ``completed`` rows have their result, ``committed`` ones are safe on the store."""

    rows: int
    completed: int
    committed: int
    failed: int
    rows_per_s: float
    tokens: int
    steps: int

    @classmethod
    def of(cls, state: ProgressState) -> Self:
        """The counts of a state."""
        return cls(
            rows=state.num_rows,
            completed=state.num_completed,
            committed=state.num_committed,
            failed=state.num_failed,
            rows_per_s=round(state.rows_per_s, 4),
            tokens=state.num_tokens,
            steps=state.num_steps,
        )


Kind = Literal["run", "segment", "row", "worker", "progress"]

SCHEMA: Mapping[type, tuple[Kind, str, int]] = {
    RunBegun: ("run", "begun", logging.INFO),
    RunEnded: ("run", "ended", logging.INFO),
    RunProgress: ("progress", "running", logging.INFO),
    SegmentCommitted: ("segment", "committed", logging.INFO),
    SegmentRepeated: ("segment", "repeated", logging.DEBUG),
    SegmentHeldBack: ("segment", "held_back", logging.INFO),
    RowFailure: ("row", "failed", logging.INFO),
    WorkerReady: ("worker", "ready", logging.INFO),
    WorkerProgress: ("worker", "working", logging.DEBUG),
    WorkerFailed: ("worker", "failed", logging.WARNING),
    WorkerDraining: ("worker", "draining", logging.INFO),
    WorkerDrained: ("worker", "drained", logging.INFO),
    WorkerEnded: ("worker", "ended", logging.DEBUG),
    WorkerDied: ("worker", "died", logging.WARNING),
}
"""What each event is called, and the level at which it is logged."""


def report(event: Event | RunBegun | RunEnded | RunProgress | RowFailure, worker: str = "", message: str = "") -> None:
    """Log an event, with itself as the record's ``event``; the failed rows of a segment after it.

    Without a ``message`` people read the fields.
    """
    _, _, level = SCHEMA[type(event)]
    if not log.isEnabledFor(level):
        return
    fields = as_mapping(event, worker)
    log.log(level, "%s", message or _words(fields), extra={"event": fields})
    if isinstance(event, SegmentCommitted):
        for failure in event.failed_rows:
            report(failure, worker)


def as_mapping(event: object, worker: str = "") -> dict[str, Any]:
    """An event in JSON's types."""
    kind, state, _ = SCHEMA[type(event)]
    fields = {"error": str(event.error)} if isinstance(event, WorkerFailed) else asdict(event)  # type: ignore[call-overload]
    if isinstance(event, SegmentCommitted):
        fields["failures"] = dict(event.failures)
        del fields["failed_rows"]
    return {"event": kind, "state": state} | ({"worker": worker} if worker else {}) | fields


def _words(fields: Mapping[str, Any]) -> str:
    left_out = ("event", "state")
    told = [f"{name}={value}" for name, value in fields.items() if name not in left_out and value not in (None, "", {})]
    return " ".join([fields["event"], fields["state"], *told])
