"""One start of a run in a process of its own, with faults drawn for it and for each of its workers."""

import os
import random
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from dimoo_core.errors import DimooError
from pipeline import epoch, retry
from tests.soak.fault import FaultLog, FaultSource
from tests.soak.forked_pool import ForkedPool, SpareWorkers
from tests.soak.store_fault import inject
from tests.support.in_process import run_here
from tests.support.stub_model import use_stub_model

NUM_WORKERS, NUM_SPARE = 2, 4
WORKER_RATE, DRIVER_RATE = 0.4, 0.02  # a driver leaves repeating to its store, so each fault of its ends the start
WORKER_POINTS, DRIVER_POINTS = range(6, 12), (1, 2, 3, 4, 5, 12, 13, 14)
MAX_FAULTY_STARTS = 8
"""Later starts have no faults, so that each run ends."""

_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Start:
    """Which one: the run and its start draw the faults."""

    seed: int
    run: int
    number: int
    manifest: Path
    output: str
    log: FaultLog
    spoils: bool

    @property
    def is_faulty(self) -> bool:
        return self.number < MAX_FAULTY_STARTS

    def faults_of(self, process: str) -> FaultSource:
        """Of the driver, or of one worker: some processes are to be killed."""
        name = f"{self.seed}:{self.run}:{self.number}:{process}"
        rng = random.Random(name)
        points = DRIVER_POINTS if process == "driver" else tuple(WORKER_POINTS)
        kill_at = (rng.choice(points), rng.choice((0, 1, 3, 8, 20))) if rng.random() < 0.3 else None
        if not self.is_faulty:
            return FaultSource(self.log, name, rate=0.0, kill_at=None)
        rate = DRIVER_RATE if process == "driver" else WORKER_RATE
        return FaultSource(self.log, name, rate=rate, kill_at=kill_at)


def fork_and_run(start: Start) -> int:
    """Run in a copy of this process, which has everything imported and no threads; its exit status, as of a process."""
    if (pid := os.fork()) == 0:
        os._exit(_run(start))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run(start: Start) -> int:
    signal.alarm(_TIMEOUT_S)  # a hang ends by a signal that is no part of the faults
    patch = pytest.MonkeyPatch()
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    use_stub_model(patch)
    patch.setattr(retry, "FIRST_WAIT_S", 0.001)
    patch.setattr(retry, "MAX_WAIT_S", 0.004)
    patch.setattr(
        retry.Patience.__init__, "__kwdefaults__", retry.Patience.__init__.__kwdefaults__ | {"first_wait_s": 0.001}
    )
    patch.setattr(epoch, "BEAT_INTERVAL_S", 0.05)

    def prepare(number: int) -> None:
        inject(pytest.MonkeyPatch(), start.faults_of(f"worker {number}"), role="worker", spoils=start.spoils)

    spare = SpareWorkers(NUM_SPARE, prepare)
    pool = partial(ForkedPool, spare=spare, num_workers=NUM_WORKERS)
    patch.setattr("jobs.run.worker_pool", lambda settings, workers, record, *, has_suspects: pool(settings))
    inject(patch, start.faults_of("driver"), role="driver", spoils=start.spoils)
    try:
        pipeline = {"segment_rows": 2, "max_rows_in_flight": 4}
        blameless = {"tries": {"crash": 1000}}  # here it is never the row that kills
        run_here(start.manifest, start.output, Path("stub"), pipeline=pipeline, failures=blameless)
    except DimooError:
        return 1
    finally:
        for pid in spare.started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return 0
