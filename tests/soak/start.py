"""One start of a run or of a retry in a process of its own, with faults drawn for it and for each of its workers."""

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.errors import DimooError
from jobs.run import execution
from jobs.run.retry import retry_job
from jobs.run.retry_plan import RetryOptions
from pipeline.output import epoch
from pipeline.storage import retry
from pipeline.worker.partials import PartialWriter
from tests.soak.fault import FaultLog, FaultSource
from tests.soak.forked_pool import ForkedPool, SpareWorkers
from tests.soak.point import POINTS_OF, Phase, Role
from tests.soak.soak_rows import RETRIED_CLASS, show_input_images
from tests.soak.store_fault import inject
from tests.support.in_process import run_here
from tests.support.stub_model import use_stub_model

NUM_WORKERS, NUM_SPARE = 2, 4
WORKER_RATE, DRIVER_RATE = 0.4, 0.02  # a driver leaves repeating to its store, so each fault of its ends the start
MAX_FAULTY_STARTS = 8
"""Of one phase; later starts have no faults, so that each run ends."""

ROWS_TAKEN_OVER = "rows taken over from drafts"
"""Noted beside the faults: without it nobody could tell that drafts were of any use."""

_PASSES: dict[tuple[Phase, Role], tuple[int, ...]] = {
    ("run", "driver"): (0, 0, 0, 1),
    ("run", "worker"): (0, 1, 3, 8, 20),
    ("retry", "driver"): (0, 0, 0, 1),
    ("retry", "worker"): (0, 0, 1, 3),  # there is less to do
}
"""How often a process may pass its point before it is killed there."""

UNEXPECTED = 70
"""Status of a start that ended in an exception that no command tells of: a mistake in the product or in the soak."""

_SEGMENTS = ((2, None), (5, 2), (5, 1))  # rows of one, and of one draft
_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Start:
    """Which one: the run, its phase and its start draw the faults."""

    seed: int
    run: int
    phase: Phase
    number: int
    manifest: Path
    output: str
    log: FaultLog
    notes: FaultLog
    spoils: bool

    @property
    def is_faulty(self) -> bool:
        return self.number < MAX_FAULTY_STARTS

    @property
    def is_run_instead(self) -> bool:
        """Whether the run's command is given in the middle of a retry, which has to leave the retry as it is."""
        name = f"{self.seed}:{self.run}:{self.phase}:{self.number}:command"
        return self.phase == "retry" and 0 < self.number < MAX_FAULTY_STARTS and random.Random(name).random() < 0.2

    def faults_of(self, process: str, role: Role) -> FaultSource:
        """Of the driver, or of one worker: some processes are to be killed."""
        name = f"{self.seed}:{self.run}:{self.phase}:{self.number}:{process}"
        if not self.is_faulty:
            return FaultSource(self.log, name, rate=0.0, kill_at=None)
        rng = random.Random(name)
        point = rng.choice(POINTS_OF[self.phase, role])
        kill_at = (point, rng.choice(_PASSES[self.phase, role])) if rng.random() < 0.3 else None
        rate = DRIVER_RATE if role == "driver" else WORKER_RATE
        return FaultSource(self.log, name, rate=rate, kill_at=kill_at)

    def command(self) -> None:
        """What a person would type.

        Raises:
            DimooError: As the command.
        """
        if self.phase == "retry" and not self.is_run_instead:
            retry_job(self.output, RetryOptions(classes=(RETRIED_CLASS,), workers=0))
            return
        rows, flush_rows = _SEGMENTS[self.run % len(_SEGMENTS)]
        pipeline = {"segment_rows": rows, "flush_rows": flush_rows, "max_rows_in_flight": 4}
        blameless = {"tries": {"crash": 1000}}  # here it is never the row that kills
        run_here(self.manifest, self.output, Path("stub"), pipeline=pipeline, failures=blameless)


def fork_and_run(start: Start) -> int:
    """Run in a copy of this process, which has everything imported and no threads; its exit status, as of a process."""
    if (pid := os.fork()) == 0:
        status = UNEXPECTED
        try:
            status = _run(start)
        except Exception as error:  # any is a finding of the soak, which the note carries to it
            start.notes.note(f"unexpected {error!r}")
        finally:  # else the copy would go on with what its maker does after this, cleaning up included
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run(start: Start) -> int:
    signal.alarm(_TIMEOUT_S)  # a hang ends by a signal that is no part of the faults
    patch = pytest.MonkeyPatch()
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    use_stub_model(patch)
    show_input_images(patch, start.phase)
    _shorten_waits(patch)
    patch.setattr(PartialWriter, "reused", _noting(PartialWriter.reused, start.notes))

    def preprocess(number: int) -> None:
        faults = start.faults_of(f"worker {number}", "worker")
        inject(pytest.MonkeyPatch(), faults, phase=start.phase, role="worker", spoils=start.spoils)

    spare = SpareWorkers(NUM_SPARE, preprocess)
    pool = partial(ForkedPool, spare=spare, num_workers=NUM_WORKERS)
    patch.setattr(execution, "worker_pool", lambda settings, workers, record, *, has_poison_segments: pool(settings))
    inject(patch, start.faults_of("driver", "driver"), phase=start.phase, role="driver", spoils=start.spoils)
    try:
        start.command()
    except DimooError:
        return 1
    finally:
        for pid in spare.started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return 0


def _shorten_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retry, "FIRST_WAIT_S", 0.001)
    patch.setattr(retry, "MAX_WAIT_S", 0.004)
    patch.setattr(
        retry.RetryPolicy.__init__,
        "__kwdefaults__",
        retry.RetryPolicy.__init__.__kwdefaults__ | {"first_wait_s": 0.001},
    )
    patch.setattr(epoch, "HEARTBEAT_INTERVAL_S", 0.05)


def _noting(reused: Callable[..., Any], notes: FaultLog) -> Callable[..., Any]:
    def noted(keeper: PartialWriter, segment: Any, row: int) -> Any:
        if (done := reused(keeper, segment, row)) is not None:
            notes.note(ROWS_TAKEN_OVER)
        return done

    return noted
