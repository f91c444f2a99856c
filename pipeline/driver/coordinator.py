"""Shares the segments of a run among workers and keeps at it until each one is committed.

Holds ids and receipts only. It may be killed at any moment: what is committed is on the store.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from dimoo_core.errors import ConfigError, WeightsError
from manifests.errors import FailureClass, ManifestError
from pipeline.driver.failure_limits import StreakWatch
from pipeline.driver.leases import LeaseBook
from pipeline.driver.pool import WorkerPool
from pipeline.driver.watchdog import WorkerWatch
from pipeline.errors import RunFailed, RunStopped, RunSuperseded, WorkerUnfit
from pipeline.output.poison_segments import CrashHistory, PoisonRecord
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import (
    Event,
    Lease,
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
from pipeline.protocol.shutdown import ShutdownRequest

LEASES_PER_WORKER = 2  # one being worked on, one being read ahead
MAX_LOSSES = 3  # of one segment; many workers may die at once with their machine, so deaths alone mean little
_POLL_TIMEOUT_S = 0.5
_LAST_WORDS_TIMEOUT_S = 5.0
MAX_ISOLATED_LOSSES = 8  # of a segment whose rows run one at a time: each death is one row's, and the next may be well


@dataclass(frozen=True, slots=True)
class CoordinatorReport:
    """Rows committed in this start, and workers lost on the way."""

    totals: RunTotals
    num_workers_lost: int


class Coordinator:
    """Runs one lease book on one pool.

    Args:
        listen: Called with every event of every worker.
        check: Called all the time; what it raises ends the run.
        poison_segments: Records segments a worker was processing when it died; None: they are handed out as before.
        shutdown: Ends the run early, gracefully, when it is requested.
        watch: Decides which workers hang or have lived long enough; asked where workers can be replaced.
        streaks: Decides which workers fail on row after row; None: none is too many.
        rows_ahead: Rows that a worker is to hold, if it takes more than the usual leases and others do not go short.
    """

    def __init__(
        self,
        pool: WorkerPool,
        leases: LeaseBook,
        listen: Callable[[str, Event], None],
        check: Callable[[], None] = lambda: None,
        poison_segments: PoisonRecord | None = None,
        shutdown: ShutdownRequest | None = None,
        watch: WorkerWatch | None = None,
        streaks: StreakWatch | None = None,
        *,
        rows_ahead: int = 0,
    ) -> None:
        self._pool = pool
        self._leases = leases
        self._listen = listen
        self._check = check
        self._poison_segments = poison_segments
        self._shutdown = shutdown or ShutdownRequest()
        self._watch = watch if pool.can_replace else None
        self._streaks = streaks or StreakWatch()
        self._rows_ahead = rows_ahead
        self._totals = RunTotals()
        self._num_lost = 0
        self._deaths_since_commit = 0
        self._open_workers: set[str] = set()
        self._ready_workers: set[str] = set()
        self._draining_workers: set[str] = set()  # are given nothing more, and blame no row if they die
        self._hungry_workers: set[str] = set()  # may be given more, as long as there are segments ahead

    def run(self) -> CoordinatorReport:
        """Work until every segment is committed; the pool is stopped in any case.

        Raises:
            ConfigError, ManifestError, WeightsError: If the workers found wrong what was asked for.
            RunSuperseded: If another driver has taken over.
            RunStopped: If a shutdown was requested before all was committed.
            TooManyFailures: If row after row fails, and there is no worker of which that is not known.
            RunFailed: If a worker failed in another way that a new try would not fix, or workers keep dying.
        """
        try:
            self._open_workers = set(self._pool.start())
            self._hungry_workers = set(self._open_workers)
            self._shutdown.is_awaited = True
            self._hand_out()
            while not self._leases.is_done:
                if self._shutdown.is_requested:
                    self._drain_all()
                    break
                self._check()
                self._streaks.check(len(self._open_workers))
                for name, event in self._pool.poll(_POLL_TIMEOUT_S):
                    self._take(name, event)
                self._look_at_workers()
                self._hand_out()
            if not self._shutdown.is_requested:
                self._take_last_words()
        finally:
            self._pool.stop()
        if not self._leases.is_done:
            raise RunStopped("stopped")
        return CoordinatorReport(self._totals, self._num_lost)

    def _drain_all(self) -> None:
        """Have every worker end gracefully, and note what they still commit; those that load their model just end."""
        silent, failures = self._open_workers & self._ready_workers, list[str]()
        for name in silent:
            self._pool.drain(name, self._shutdown.left_s)
        while silent and self._shutdown.left_s > 0:
            self._check()
            for name, event in self._pool.poll(min(_POLL_TIMEOUT_S, self._shutdown.left_s)):
                if isinstance(event, WorkerFailed | WorkerDied):
                    failures.append(f"{name}: {event.error if isinstance(event, WorkerFailed) else event.reason}")
                if isinstance(event, WorkerFailed | WorkerDrained | WorkerEnded | WorkerDied):
                    silent.discard(name)
                    self._listen(name, event)
                else:
                    self._take(name, event)
        failures += [f"{name}: not done in time" for name in sorted(silent)]
        if failures and not self._leases.is_done:
            raise RunStopped(f"not stopped gracefully: {'; '.join(failures)}")

    def _take_last_words(self) -> None:
        """Let the workers end by themselves and hear their final counts; one still loading its model has none."""
        for name in self._open_workers:
            self._pool.close(name)
        silent = {name for name in self._open_workers & self._ready_workers if not self._leases.is_overtaken(name)}
        deadline_s = time.monotonic() + _LAST_WORDS_TIMEOUT_S
        while silent and time.monotonic() < deadline_s:
            for name, event in self._pool.poll(_POLL_TIMEOUT_S):
                if isinstance(event, WorkerProgress):
                    self._listen(name, event)
                elif isinstance(event, WorkerEnded | WorkerDied):
                    silent.discard(name)

    def _hand_out(self) -> None:
        """Fill workers up, one lease at a time in turn, so that few segments spread over all of them."""
        is_over = False
        while not is_over:
            is_over = True
            for name in self._candidates():
                if self._has_room(name) and (lease := self._leases.next_for(name)):
                    self._pool.assign(name, lease)
                    is_over = False
        self._hungry_workers = {name for name in self._hungry_workers if self._has_room(name)}
        for name in self._streaks.holding_back():
            if not self._num_in_flight(name):  # no more rows can show whose fault it is
                self._pool.commit_held(name)
                self._streaks.released(name)

    def _num_in_flight(self, name: str) -> int:
        """Segments that a worker still has to work on."""
        return self._leases.num_held(name) - self._streaks.num_held_back(name)

    def _has_room(self, name: str) -> bool:
        """Fewer leases than it may have, or so small ones that it would run out of rows before one is committed.

        The latter if it is ready to work on them, and as long as there are as many ahead for each other worker, so that
        towards the end nobody sits on what others could do.
        """
        leases, num_workers = self._leases, len(self._open_workers)
        num_held = self._num_in_flight(name)
        if num_held < LEASES_PER_WORKER:
            return True
        if name not in self._ready_workers or leases.num_rows_held(name) >= self._rows_ahead:
            return False
        return leases.num_ahead >= (num_held * num_workers if num_workers > 1 else 1)

    def _candidates(self) -> list[str]:
        """Workers that may get a lease, those that hold least first. Called at every event, so it looks at few of them.

        As long as there are segments ahead, only those that got room since the last call have any.
        """
        if not self._leases.is_exhausted:
            return sorted(self._hungry_workers - self._draining_workers, key=self._leases.num_held)
        if self._leases.has_returned:
            return sorted(self._open_workers - self._draining_workers, key=self._leases.num_held)
        if self._leases.has_copies:
            return [name for name in self._open_workers - self._draining_workers if self._leases.is_idle(name)]
        return []

    def _take(self, name: str, event: Event) -> None:
        if isinstance(event, SegmentCommitted) and not self._leases.committed(name, event.segment_name):
            event = SegmentRepeated(event.segment_name, event.totals)
        self._listen(name, event)
        self._streaks.take(name, event)
        if self._watch is not None:
            self._watch.take(name, event)
        match event:
            case WorkerReady():
                self._ready_workers.add(name)
                if name in self._open_workers:  # else it is gone, and this was reported before
                    self._hungry_workers.add(name)
            case SegmentCommitted(_, totals):
                self._hungry_workers.add(name)
                self._totals += totals
                self._deaths_since_commit = 0
            case SegmentRepeated() | SegmentHeldBack():
                self._hungry_workers.add(name)
            case WorkerFailed(error, row_ids):
                if isinstance(error, ConfigError | ManifestError | WeightsError | RunSuperseded):
                    raise error  # what was asked for is wrong, or others do it: no resume can help
                if isinstance(error, WorkerUnfit):
                    return self._retire(name, error)
                if row_ids and self._pool.can_replace:  # the engine failed: as if the process had died of these rows
                    self._pool.discard(name)
                    self._replace(name, str(error), "engine")
                    return
                rows = f" (rows in the engine: {', '.join(row_ids[:20])})" if row_ids else ""
                raise RunFailed(f"{error}{rows}") from error
            case WorkerDraining():
                self._draining_workers.add(name)
            case WorkerDrained():
                self._take_back(name)
                self._pool.discard(name)
                self._start_successor(name)
            case WorkerDied(reason) if name in self._draining_workers:  # it was ended before it was done
                self._take_back(name)
                self._start_successor(name)
            case WorkerDied(is_by_machine=True):
                self._num_lost += 1
                self._take_back(name)
                self._start_successor(name)
            case WorkerDied(reason):
                self._replace(name, reason)
            case _:
                pass

    def _look_at_workers(self) -> None:
        if self._watch is None:
            return
        hung, old = self._watch.look()
        for name, _ in old:
            self._pool.drain(name, None)
        for name, reason in hung:
            self._pool.discard(name)
            self._listen(name, WorkerDied(reason))
            self._replace(name, reason, "timeout")

    def _retire(self, name: str, error: WorkerUnfit) -> None:
        """Continue without a worker that fails on row after row; its rows are run by others, if they can do better."""
        self._streaks.check(len(self._open_workers))
        if self._open_workers == {name} or not self._pool.can_replace:
            raise self._streaks.too_many(f"{error}, no other worker is left") from error
        self._num_lost += 1
        self._streaks.retire(name)
        self._pool.discard(name)
        self._listen(name, WorkerDied(str(error)))
        self._take_back(name, error.segment_names)
        self._let_go(name)

    def _replace(self, name: str, reason: str, failure_class: FailureClass = "crash") -> None:
        self._num_lost += 1
        self._deaths_since_commit += 1
        lost = self._leases.return_all(name)
        self._give_up_on(lost, reason)
        if name in self._ready_workers and self._poison_segments is not None:
            self._remember(self._poison_segments, lost, reason, failure_class)
        is_given_up = failure_class == "engine" and self._streaks.is_given_up_at_death(name)
        if is_given_up and self._open_workers != {name}:
            self._let_go(name)
        else:
            self._start_successor(name)

    def _take_back(self, name: str, failing: tuple[str, ...] = ()) -> None:
        """What a worker has handed back, or has to: no row of it is poison."""
        for lease in self._leases.return_all(name, is_lost=False, failing=failing):
            if (
                lease.crash_history is not None and self._poison_segments is not None
            ):  # it may hold which row was running
                self._poison_segments.put(lease.segment.name, lease.crash_history)

    def _let_go(self, name: str, successor: str | None = None) -> None:
        for names in (self._open_workers, self._hungry_workers, self._draining_workers):
            names.discard(name)
        if self._watch is not None:
            self._watch.forget(name)
        self._streaks.forget(name, successor)

    def _start_successor(self, name: str) -> None:
        successor = self._pool.replace(name)
        self._let_go(name, successor)
        self._open_workers.add(successor)
        self._hungry_workers.add(successor)

    def _remember(
        self, poison_segments: PoisonRecord, lost: list[Lease], reason: str, failure_class: FailureClass
    ) -> None:
        """From now on, also after a restart, the rows of these segments are run one at a time."""
        for lease in lost:
            name = lease.segment.name
            crash_history = (poison_segments.of(name) or CrashHistory()).after_death(reason, failure_class)
            poison_segments.put(name, crash_history)
            self._leases.suspect(name, crash_history)

    def _give_up_on(self, lost: list[Lease], reason: str) -> None:
        """End the run if the same segments take worker after worker with them and nothing is committed meanwhile."""
        names = [lease.segment.name for lease in lost]
        max_losses = MAX_ISOLATED_LOSSES if any(lease.crash_history is not None for lease in lost) else MAX_LOSSES
        hopeless = [name for name in names if self._leases.num_losses(name) >= max_losses]
        if hopeless and self._deaths_since_commit >= max_losses:
            raise RunFailed(
                f"{self._deaths_since_commit} workers died without committing anything, at least {max_losses} of them "
                f"with {', '.join(hopeless)}: {reason}"
            )
