"""One driver at a time: who claims an epoch works, who is superseded stops, who comes second says so."""

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from manifests.row.settings import RowDefaults
from pipeline.driver.leases import LeaseBook
from pipeline.errors import RunInUse, RunSuperseded
from pipeline.manifest import open_manifest
from pipeline.output.epoch import Fence, claimed_epoch, latest_epoch
from pipeline.protocol.messages import Event, LeaseQueue, SegmentCommitted, WorkerFailed
from pipeline.storage.base import Store
from pipeline.storage.errors import StoreError
from pipeline.storage.local import LocalStore
from pipeline.storage.reader import open_store
from pipeline.worker.worker import Worker
from tests.support.in_process import run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.run_settings import cpu_settings
from tests.support.stub_model import StubEngine, use_stub_model

ELSEWHERE = {"host": "elsewhere/1", "pid": 1, "process_started_s": 0.0, "claimed_at": "then", "nonce": "n"}


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    root = str(tmp_path / "out")
    if request.param == "s3":
        root = f"s3://{request.getfixturevalue('s3_bucket')}/out"
    store = open_store(root)
    yield store
    store.close()


def claim_elsewhere(store: Store, number: int, heartbeats: int | None = 1) -> None:
    """Leave what a driver on another machine would have written."""
    assert store.put_if_absent(f"_epochs/{number:06d}.json", json.dumps(ELSEWHERE).encode())
    if heartbeats is not None:
        beat_elsewhere(store, number, heartbeats)


def beat_elsewhere(store: Store, number: int, heartbeats: int, *, ended: bool = False) -> None:
    store.put(f"_epochs/{number:06d}-beat.json", json.dumps({"beats": heartbeats, "ended": ended}).encode())


def test_each_start_has_the_next_number(store: Store) -> None:
    numbers = []
    for _ in range(3):
        with claimed_epoch(store) as epoch:
            epoch.fence.check()
            epoch.check()
            numbers.append(epoch.number)
    assert numbers == [1, 2, 3]


def test_a_second_driver_is_told_who_is_at_work_and_the_first_continues(store: Store) -> None:
    with claimed_epoch(store) as first:
        with pytest.raises(RunInUse, match="is in use by another driver"), claimed_epoch(store):
            pass
        first.fence.check()
    assert latest_epoch(store) == 1


@pytest.mark.parametrize(
    "damage", [b"", b"\xff\xfe", b"[]", b'{"beats": 3'], ids=["empty", "no text", "list", "cut off"]
)
def test_a_damaged_heartbeat_is_waited_for_and_then_succeeded(store: Store, damage: bytes) -> None:
    claim_elsewhere(store, 1)
    store.put("_epochs/000001-beat.json", damage)
    with claimed_epoch(store, silence_s=0.2) as epoch:
        assert epoch.number == 2


def test_a_commit_that_a_store_puts_off_is_not_made_once_another_has_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub_model(monkeypatch)
    put_off: list[str] = []
    create = LocalStore._create

    def throttled(store: LocalStore, key: str, data: bytes) -> bool:
        if key.startswith("parts/") and not put_off:
            put_off.append(key)
            claim_elsewhere(store, latest_epoch(store) + 1)
            raise StoreError("create", store.uri_of(key), "SlowDown", retryable=True)
        return create(store, key, data)

    monkeypatch.setattr(LocalStore, "_create", throttled)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    with pytest.raises(RunSuperseded, match="has taken over"):
        run_here(manifest, tmp_path / "out", Path("stub"))
    assert put_off
    assert RunOutput(tmp_path / "out").keys("parts/") == []


def test_of_many_drivers_that_start_at_once_exactly_one_wins(store: Store) -> None:
    barrier = threading.Barrier(8)

    def start(_: int) -> int | None:
        barrier.wait()
        try:
            return stack.enter_context(claimed_epoch(store)).number
        except RunInUse:
            return None

    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        assert sorted(filter(None, pool.map(start, range(8)))) == [1]


@pytest.mark.parametrize("heartbeats", [None, 7], ids=["never", "once"])
def test_a_driver_elsewhere_that_is_silent_is_succeeded(
    store: Store, heartbeats: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dimoo_batch")
    claim_elsewhere(store, 1, heartbeats)
    with claimed_epoch(store, silence_s=0.2) as epoch:
        assert epoch.number == 2
        with pytest.raises(RunSuperseded, match="has taken over"):
            Fence(store, 1).check()
    assert len(caplog.messages) == 1
    assert "process 1 on elsewhere" in caplog.messages[0]


def test_a_driver_elsewhere_that_has_ended_is_succeeded_without_a_wait(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dimoo_batch")
    claim_elsewhere(store, 1)
    beat_elsewhere(store, 1, 2, ended=True)
    with claimed_epoch(store) as epoch:
        assert epoch.number == 2
    assert caplog.messages == []


def test_a_driver_elsewhere_that_sends_a_heartbeat_is_left_in_peace(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    claim_elsewhere(store, 1)

    class Heartbeat(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            beat_elsewhere(store, 1, 2)

    caplog.set_level("INFO", "dimoo_batch")
    logger, handler = logging.getLogger("dimoo_batch.pipeline"), Heartbeat()
    logger.addHandler(handler)
    try:
        with pytest.raises(RunInUse, match="process 1 on elsewhere"), claimed_epoch(store, silence_s=600):
            pass
    finally:
        logger.removeHandler(handler)
    assert latest_epoch(store) == 1


def test_a_worker_of_an_older_epoch_commits_nothing_and_stops(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is superseded while its rows are in the engine."""
    use_stub_model(monkeypatch)
    step = StubEngine.step

    def supersede_and_step(engine: StubEngine) -> Any:
        if engine.waiting and latest_epoch(store) == 1:
            claim_elsewhere(store, 2)
        return step(engine)

    monkeypatch.setattr(StubEngine, "step", supersede_and_step)
    rows = [text_row(f"row{number}", encoded(picture(0, (32, 32))), max_tokens=8) for number in range(6)]
    source = open_manifest(str(write_manifest(tmp_path / "m.parquet", rows)), defaults=RowDefaults())
    book, leases = LeaseBook(source.plan(segment_rows=3, limit=None)), LeaseQueue()
    for _ in range(2):
        leases.put(book.next_for("zombie"))
    events: list[Event] = []
    with claimed_epoch(store) as epoch:
        settings = cpu_settings(store.uri, epoch=epoch.number)
        Worker(settings, events.append).run(leases)
    assert [type(event.error) for event in events if isinstance(event, WorkerFailed)] == [RunSuperseded]
    assert not any(isinstance(event, SegmentCommitted) for event in events)
    assert list(store.list("parts/")) == []


def test_a_driver_that_is_superseded_stops_and_the_other_ends_the_run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub_model(monkeypatch)
    step = StubEngine.step

    def supersede_and_step(engine: StubEngine) -> Any:
        if engine.waiting and latest_epoch(store) == 1:
            claim_elsewhere(store, 2)
        return step(engine)

    monkeypatch.setattr(StubEngine, "step", supersede_and_step)
    ids = [f"row{number}" for number in range(6)]
    rows = [text_row(row_id, encoded(picture(0, (32, 32))), max_tokens=8) for row_id in ids]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    with pytest.raises(RunSuperseded):
        run_here(manifest, store.uri, Path("stub"))
    assert list(store.list("parts/")) == []
    beat_elsewhere(store, 2, 1, ended=True)
    run_here(manifest, store.uri, Path("stub"))
    RunOutput(store.uri).check_complete(ids)


def test_a_store_that_cannot_be_asked_is_no_leave_to_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def size(key: str) -> int | None:
        raise StoreError("read", store.uri_of(key), "SlowDown", retryable=True)

    monkeypatch.setattr(store, "size", size)
    with pytest.raises(StoreError, match="SlowDown"):
        Fence(store, 1).check()
