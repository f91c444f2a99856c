"""What workers report to the coordinator: small values, never images."""

import queue
from collections.abc import Mapping
from dataclasses import dataclass, field

from dimoo_core.errors import DimooError
from manifests.errors import RowFailure
from manifests.files.plan import Segment
from pipeline.output.poison_segments import CrashHistory
from pipeline.output.results import RunTotals
from pipeline.output.retries import SegmentRetry


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The model is loaded; ``load_s`` seconds after the worker began."""

    load_s: float


@dataclass(frozen=True, slots=True)
class Streak:
    """Rows of a worker on which its engine has failed, with none done since.

    ``cause`` is the type of the last one's error, ``message`` its words.
    """

    num_rows: int
    cause: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProgress:
    """Sums since the worker began; rows count when they have a result, not when they are committed."""

    num_done: int
    num_failed: int
    num_steps: int
    num_tokens: int
    engine_busy_s: float
    engine_span_s: float  # from the first step's begin to the latest step's end
    silence_s: float = 0.0  # since the oldest of its threads' last heartbeats
    memory_bytes: int = 0  # of the process, as far as it is in the machine's memory
    engine_waited_s: float = 0.0  # of that, with nothing to do
    num_tokens_reused: int = 0  # that steps did not compute, since an earlier one had
    latest_image: str | None = None  # key of the image that was stored last
    failing: Streak | None = None


@dataclass(frozen=True, slots=True)
class SegmentCommitted:
    """A segment is on the store, committed by this worker or by another before it.

    ``failures`` counts the failed rows of this worker's own attempt by their class, ``failed_rows`` are the first ones.
    """

    segment_name: str
    totals: RunTotals
    failures: tuple[tuple[str, int], ...] = ()
    failed_rows: tuple[RowFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class SegmentRepeated:
    """A segment that was committed, and counted, before this worker was done with it; sent by the coordinator."""

    segment_name: str
    totals: RunTotals


@dataclass(frozen=True, slots=True)
class SegmentHeldBack:
    """A segment is complete, and not committed as long as it may be the worker that its rows fail for."""

    segment_name: str


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """The worker cannot continue, and another try would not help: the run ends, or continues without it if it is unfit.

    The error is one of ours, which survive the way between processes; others are turned into ``RunFailed``.
    """

    error: DimooError
    row_ids: tuple[str, ...] = ()  # that were in the engine, if it was the engine that failed


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """The worker was asked to end early and begins nothing more; sent at once."""


@dataclass(frozen=True, slots=True)
class WorkerDrained:
    """Nothing is left in flight: what was not committed of the worker's leases is handed back, by nobody's fault."""


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """The worker's last word: there is nothing more for it, it was stopped, or it has failed."""


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker's process is gone; its rows can be given to another.

    ``is_by_machine``: its machine is gone too, so that no row is to blame.
    """

    reason: str
    is_by_machine: bool = False


Event = (
    WorkerReady
    | WorkerProgress
    | SegmentCommitted
    | SegmentRepeated
    | SegmentHeldBack
    | WorkerFailed
    | WorkerDraining
    | WorkerDrained
    | WorkerEnded
    | WorkerDied
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A segment handed to one worker.

    Attributes:
        repeats: Its rows whose id an earlier row has, with that row.
        crash_history: Set if a worker died with the segment: its rows are run one at a time, with no others.
        has_partials: Whether another worker, or an earlier start, may have left finished rows of the segment.
        retry: Set if the segment is committed and rows that failed in it are run again; None: all its rows are run.
        num_unfit: How many workers were given up because they failed on its rows, and on others.
    """

    segment: Segment
    repeats: Mapping[int, int] = field(default_factory=dict)
    crash_history: CrashHistory | None = None
    retry: SegmentRetry | None = None
    has_partials: bool = field(default=False, compare=False)  # a hint: the lease is the same
    num_unfit: int = 0

    @property
    def num_rows(self) -> int:
        """How many rows are to be run."""
        return self.segment.num_rows if self.retry is None else self.retry.num_rows


LeaseQueue = queue.SimpleQueue[Lease | None]
"""Leases for one worker; None after the last."""
