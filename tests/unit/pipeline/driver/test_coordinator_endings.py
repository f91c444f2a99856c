"""How a run ends early, and how workers end in good order."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest

from dimoo_core.errors import ConfigError, DimooError, WeightsError
from manifests.errors import ManifestError
from pipeline.driver.coordinator import LEASES_PER_WORKER, Coordinator, CoordinatorReport
from pipeline.driver.leases import LeaseBook
from pipeline.driver.watchdog import WorkerWatch
from pipeline.errors import RunFailed, RunStopped
from pipeline.output.poison_segments import PoisonRecord
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import (
    Event,
    Lease,
    SegmentCommitted,
    WorkerDied,
    WorkerDrained,
    WorkerDraining,
    WorkerFailed,
    WorkerReady,
)
from pipeline.protocol.settings import WorkerLife
from pipeline.protocol.shutdown import ShutdownRequest
from pipeline.storage.errors import StoreError
from pipeline.storage.local import LocalStore
from tests.support.pretending_pool import PretendingPool, commit, progress, run, segments


@pytest.mark.parametrize("error", [ConfigError("no cuda"), WeightsError("no tensor"), ManifestError("cut off")])
def test_what_was_asked_for_wrongly_is_told_as_it_is(error: DimooError) -> None:
    pool = PretendingPool(2, lambda name, lease: WorkerFailed(error))
    with pytest.raises(type(error)) as caught:
        run(pool, 3)
    assert caught.value is error
    assert pool.is_stopped


def test_another_failure_ends_the_run_with_the_rows_that_were_in_the_engine() -> None:
    store_error = StoreError("write", "s3://b/k", "NoSpace")
    pool = PretendingPool(2, lambda name, lease: WorkerFailed(store_error, tuple(f"row{n}" for n in range(30))))
    with pytest.raises(RunFailed) as caught:
        run(pool, 3)
    assert str(caught.value).startswith("cannot write s3://b/k: NoSpace (rows in the engine: row0, row1")
    assert "row19" in str(caught.value)
    assert "row20" not in str(caught.value)
    assert caught.value.__cause__ is store_error


def test_the_pool_is_stopped_when_listening_fails() -> None:
    pool = PretendingPool(1, commit)

    def interrupt(name: str, event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Coordinator(pool, LeaseBook(segments(2)), interrupt).run()
    assert pool.is_stopped


def test_a_shutdown_request_drains_every_worker_and_what_they_commit_meanwhile_counts() -> None:
    shutdown, heard = ShutdownRequest(lambda: 0.0), list[Event]()

    def give_after_three(name: str, event: Event) -> None:
        heard.append(event)
        if sum(isinstance(each, SegmentCommitted) for each in heard) == 3:
            shutdown.request(20.0)

    pool = PretendingPool(2, commit)
    with pytest.raises(RunStopped, match=r"\Astopped\Z"):
        Coordinator(pool, LeaseBook(segments(12)), give_after_three, shutdown=shutdown).run()
    assert sorted(pool.drained) == [("worker-0", 20.0), ("worker-1", 20.0)]
    assert sum(isinstance(each, WorkerDrained) for each in heard) == 2
    assert pool.is_stopped


def test_a_worker_that_cannot_drain_is_named_when_the_run_stops() -> None:
    shutdown = ShutdownRequest(lambda: 0.0)

    class Dying(PretendingPool):
        def drain(self, name: str, deadline_s: float | None) -> None:
            self._events.append((name, WorkerDied("killed")))

    def give(name: str, event: Event) -> None:
        shutdown.request(20.0)

    with pytest.raises(RunStopped, match="not stopped gracefully: worker-0: killed"):
        Coordinator(Dying(1, commit), LeaseBook(segments(12)), give, shutdown=shutdown).run()


def test_a_worker_that_has_lived_long_enough_is_drained_and_replaced() -> None:
    class Replacing(PretendingPool):
        can_replace = True

        def discard(self, name: str) -> None:
            assert name not in self._leases

    def commit_and_tell(name: str, lease: Lease) -> Event | None:
        pool._events.append((name, progress(5)))
        return commit(name, lease)

    now_s = count(step=2.0)
    pool = Replacing(1, commit_and_tell)
    watch = WorkerWatch(WorkerLife(max_rows=5), now_s.__next__)
    report = Coordinator(pool, LeaseBook(segments(8)), lambda name, event: None, watch=watch).run()
    assert report == CoordinatorReport(RunTotals(8, 0), 0)
    assert ("worker-0", None) in pool.drained
    assert len(pool.drained) > 1


@pytest.mark.parametrize("last_word", [WorkerDrained(), WorkerDied("its machine was taken away")])
def test_what_a_drained_worker_hands_back_is_done_by_its_successor_and_not_recorded(
    last_word: Event, tmp_path: Path
) -> None:
    record = PoisonRecord(LocalStore(str(tmp_path)))

    class OnceDrained(PretendingPool):
        def discard(self, name: str) -> None:
            assert name == "worker-0"

        def poll(self, timeout_s: float) -> Sequence[tuple[str, Event]]:
            if self._num_started == 1 and self._leases.get("worker-0"):
                del self._leases["worker-0"]
                return [("worker-0", WorkerReady(0.1)), ("worker-0", WorkerDraining()), ("worker-0", last_word)]
            return super().poll(timeout_s)

    pool = OnceDrained(1, commit)
    report = Coordinator(pool, LeaseBook(segments(6)), lambda name, event: None, poison_segments=record).run()
    assert report == CoordinatorReport(RunTotals(6, 0), 0)
    assert record.all() == {}
    assert [name for name, _ in pool.given].count("worker-0") == LEASES_PER_WORKER


def test_a_draining_worker_is_given_nothing_more() -> None:
    class Draining(PretendingPool):
        def start(self) -> list[str]:
            names = super().start()
            self._events.appendleft(("worker-0", WorkerDraining()))
            return names

    pool = Draining(2, commit)
    assert run(pool, 12)[0].totals == RunTotals(12, 0)
    assert [name for name, _ in pool.given].count("worker-0") == LEASES_PER_WORKER
