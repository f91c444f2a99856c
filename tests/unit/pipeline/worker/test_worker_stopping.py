"""How a worker ends early: stopped at once, or drained in good order."""

import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar

import pytest

from dimoo_core.request.request import Result
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import (
    Event,
    LeaseQueue,
    SegmentCommitted,
    WorkerDrained,
    WorkerDraining,
    WorkerEnded,
    WorkerFailed,
    WorkerProgress,
)
from pipeline.protocol.settings import PipelineSettings
from pipeline.storage.errors import StoreError
from pipeline.storage.local import LocalStore
from pipeline.worker.commit import SegmentCommitter
from pipeline.worker.segment import OpenSegment
from pipeline.worker.worker import Worker
from tests.support.run_output import RunOutput
from tests.support.stub_model import StubEngine, StubModel, use_stub_model
from tests.support.worker_run import book_of, settings_of


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> StubModel:
    return use_stub_model(monkeypatch)


def test_stopping_ends_a_worker_that_waits_for_leases(model: StubModel, tmp_path: Path) -> None:
    events: list[Event] = []
    worker = Worker(settings_of(tmp_path), events.append)
    thread = threading.Thread(target=worker.run, args=(LeaseQueue(),))
    thread.start()
    worker.stop()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert isinstance(events[-1], WorkerEnded)
    assert not any(isinstance(event, WorkerFailed) for event in events)


def test_stopping_ends_a_worker_whose_feeder_waits_for_credit(
    model: StubModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing ever comes out of this engine, so the feeder cannot go on."""
    stepped = threading.Event()

    def step(engine: StubEngine) -> list[Any]:
        stepped.set()
        return []

    monkeypatch.setattr(StubEngine, "step", step)
    book, leases = book_of(tmp_path, 10, 10), LeaseQueue()
    leases.put(book.next_for("alone"))
    worker = Worker(settings_of(tmp_path, pipeline=PipelineSettings(max_rows_in_flight=2)), lambda event: None)
    thread = threading.Thread(target=worker.run, args=(leases,))
    thread.start()
    assert stepped.wait(timeout=30)
    worker.stop()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert RunOutput(tmp_path / "out").keys() == []


def drained_after(folder: Path, patch: pytest.MonkeyPatch, num_done: int, deadline_s: float | None) -> list[Event]:
    """A worker on two segments of ten rows, drained as soon as so many rows have their outcome; what it said."""
    events: list[Event] = []
    book, leases = book_of(folder, 20, 10), LeaseQueue()
    for _ in range(2):
        leases.put(book.next_for("alone"))
    worker = Worker(settings_of(folder, pipeline=PipelineSettings(max_rows_in_flight=1)), events.append)
    commit_held, settled = SegmentCommitter.commit_held, list[int]()

    def settle_and_drain(committer: SegmentCommitter, segment: OpenSegment, row_result: Any) -> None:
        settled.append(row_result.row)
        if len(settled) == num_done:
            worker.drain(deadline_s)
        commit_held(committer, segment, row_result)

    patch.setattr(SegmentCommitter, "commit_held", settle_and_drain)
    worker.run(leases)
    return events


def test_draining_without_a_deadline_finishes_the_open_segment_and_begins_no_other(
    model: StubModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = drained_after(tmp_path, monkeypatch, 3, None)
    assert [type(event) for event in events[-3:]] == [WorkerProgress, WorkerDrained, WorkerEnded]
    assert sum(isinstance(event, WorkerDraining) for event in events) == 1
    assert [event.totals for event in events if isinstance(event, SegmentCommitted)] == [RunTotals(10, 0)]
    assert len(RunOutput(tmp_path / "out").rows()) == 10


def test_draining_with_a_deadline_commits_what_is_complete_and_leaves_the_rest(
    model: StubModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = drained_after(tmp_path, monkeypatch, 10, 60.0)
    assert [type(event) for event in events[-3:]] == [WorkerProgress, WorkerDrained, WorkerEnded]
    assert len(RunOutput(tmp_path / "out").rows()) == 10
    assert not any(isinstance(event, WorkerFailed) for event in events)


class NarrowEngine(StubEngine):
    """One with room for two requests, each of three steps, that begins when four wait; ``begun`` has what it began."""

    begun: ClassVar[dict[str, int]] = {}

    def queued(self) -> set[str]:
        return super().queued() - set(self.begun)

    def step(self) -> list[Result]:
        if not self.begun and len(self.waiting) < 4:
            return []
        for request in self.waiting[:2]:
            self.begun[request.request_id] = 1 + self.begun.get(request.request_id, 0)
        if any(self.begun[request.request_id] < 3 for request in self.waiting[:2]):
            return []
        kept, self.waiting = self.waiting[2:], self.waiting[:2]
        results = super().step()
        self.waiting = kept
        return results


def test_draining_with_a_deadline_finishes_rows_that_are_begun_and_no_row_that_is_only_read_ahead(
    model: StubModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.worker.worker.Engine", NarrowEngine)
    monkeypatch.setattr(NarrowEngine, "begun", begun := {})
    events: list[Event] = []
    book, leases = book_of(tmp_path, 12, 1), LeaseQueue()
    while lease := book.next_for("alone"):
        leases.put(lease)
    worker = Worker(settings_of(tmp_path), events.append)
    step = NarrowEngine.step

    def step_and_drain(engine: NarrowEngine) -> list[Result]:
        results = step(engine)
        if engine.begun:
            worker.drain(60.0)
        return results

    monkeypatch.setattr(NarrowEngine, "step", step_and_drain)
    worker.run(leases)
    assert isinstance(events[-2], WorkerDrained)
    assert list(begun.values()) == [3, 3]
    assert sorted(row["row"] for row in RunOutput(tmp_path / "out").rows()) == sorted(map(int, begun))


def test_draining_leaves_an_input_that_does_not_come(
    model: StubModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, comes = threading.Event(), threading.Event()

    def get(store: LocalStore, key: str, max_bytes: int) -> bytes:
        asked.set()
        comes.wait()
        raise StoreError("read", store.uri_of(key), "EndpointConnectionError", retryable=True)

    monkeypatch.setattr(LocalStore, "get_at_most", get)
    book, leases, events = book_of(tmp_path, 2, 1, "photos/a.png"), LeaseQueue(), SimpleQueue[Event]()
    leases.put(book.next_for("alone"))
    worker = Worker(settings_of(tmp_path), events.put)
    thread = threading.Thread(target=worker.run, args=(leases,))
    thread.start()
    assert asked.wait(timeout=30)
    worker.drain(60.0)
    while not isinstance(events.get(timeout=30), WorkerDrained):
        pass
    comes.set()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert RunOutput(tmp_path / "out").keys() == []


def test_stopping_while_images_cannot_be_reached_makes_no_failed_rows(
    model: StubModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def get(store: LocalStore, key: str, max_bytes: int) -> bytes:
        asked.set()
        raise StoreError("read", store.uri_of(key), "EndpointConnectionError", retryable=True)

    monkeypatch.setattr(LocalStore, "get_at_most", get)
    book, leases = book_of(tmp_path, 2, 1, "photos/a.png"), LeaseQueue()
    for _ in range(2):
        leases.put(book.next_for("alone"))
    worker = Worker(settings_of(tmp_path), lambda event: None)
    thread = threading.Thread(target=worker.run, args=(leases,))
    thread.start()
    assert asked.wait(timeout=30)
    worker.stop()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert RunOutput(tmp_path / "out").keys() == []
