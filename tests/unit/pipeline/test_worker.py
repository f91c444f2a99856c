"""The loop of a worker around a model that computes nothing."""

import threading
import weakref
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar

import pytest

from dimoo_core.errors import ConfigError, WeightsError
from dimoo_core.request import Result
from manifests.errors import ManifestError
from manifests.row import RowDefaults
from pipeline.coordinator import LEASES_PER_WORKER, Coordinator
from pipeline.errors import RunFailed, StoreError
from pipeline.event import (
    Event,
    SegmentCommitted,
    WorkerDrained,
    WorkerDraining,
    WorkerEnded,
    WorkerFailed,
    WorkerProgress,
    WorkerReady,
)
from pipeline.lease import LeaseBook, LeaseQueue
from pipeline.local_pool import LocalPool
from pipeline.local_store import LocalStore
from pipeline.manifest_source import open_manifest
from pipeline.open_segment import OpenSegment
from pipeline.outcome import RunTotals
from pipeline.run_settings import RunSettings
from pipeline.settlement import Settlement
from pipeline.worker import Worker
from tests.support.manifest_rows import encoded, picture, text_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.stub_model import StubEngine, StubModel, use_stub_model

IMAGE = encoded(picture(0, (32, 32)))


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> StubModel:
    return use_stub_model(monkeypatch)


def settings_of(folder: Path, **options: Any) -> RunSettings:
    return RunSettings(
        model="stub", device="cpu", dtype="float32", output_uri=str(folder / "out"), input_resolution=32, **options
    )


def book_of(folder: Path, num_rows: int, segment_rows: int, image: bytes | str = IMAGE) -> LeaseBook:
    rows = [text_row(f"row{number}", image, max_tokens=8) for number in range(num_rows)]
    source = open_manifest(str(write_manifest(folder / "m.parquet", rows)), defaults=RowDefaults())
    return LeaseBook(source.plan(segment_rows=segment_rows, limit=None))


def run_alone(settings: RunSettings, book: LeaseBook) -> list[Event]:
    """Run one worker on everything in the book; returns what it said."""
    events: list[Event] = []
    leases: LeaseQueue = LeaseQueue()
    while lease := book.next_for("alone"):
        leases.put(lease)
    leases.put(None)
    Worker(settings, events.append).run(leases)
    return events


@pytest.fixture
def open_segments(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many segments were open, each time that one more was."""
    alive: weakref.WeakSet[OpenSegment] = weakref.WeakSet()
    counts: list[int] = []

    class Counted(OpenSegment):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            alive.add(self)
            counts.append(len(alive))

    monkeypatch.setattr("pipeline.row_feed.OpenSegment", Counted)
    return counts


def test_rows_in_hand_are_bounded_however_long_the_manifest_is(
    model: StubModel, open_segments: list[int], tmp_path: Path
) -> None:
    book = book_of(tmp_path, 3000, 50)
    pool = LocalPool(settings_of(tmp_path, max_rows_in_flight=16))
    report = Coordinator(pool, book, lambda name, event: None).run()
    assert report.totals == RunTotals(3000, 0)
    assert 4 <= model.most_in_hand <= 16
    assert len(open_segments) == 60
    assert max(open_segments) <= LEASES_PER_WORKER + 1  # one more may wait for its collection
    assert len(RunOutput(tmp_path / "out").rows()) == 3000


def test_a_worker_says_when_it_is_ready_what_it_has_done_and_that_it_has_ended(
    model: StubModel, tmp_path: Path
) -> None:
    first, *rest, progress, last = run_alone(settings_of(tmp_path), book_of(tmp_path, 10, 4))
    assert isinstance(first, WorkerReady)
    assert isinstance(progress, WorkerProgress)
    assert (progress.num_done, progress.num_failed) == (10, 0)
    assert isinstance(last, WorkerEnded)
    committed = {event.segment_name: event.totals for event in rest if isinstance(event, SegmentCommitted)}
    assert committed == {
        "0000000-00000": RunTotals(4, 0),
        "0000000-00001": RunTotals(4, 0),
        "0000000-00002": RunTotals(2, 0),
    }


def failure_of(events: list[Event]) -> WorkerFailed:
    *_, failure, last = events
    assert isinstance(failure, WorkerFailed)
    assert isinstance(last, WorkerEnded)
    return failure


def test_a_model_that_cannot_be_loaded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stub_model(monkeypatch)

    def load_model(*arguments: object, **options: object) -> None:
        raise WeightsError("tensor missing")

    monkeypatch.setattr("pipeline.worker.load_model", load_model)
    events = run_alone(settings_of(tmp_path), book_of(tmp_path, 2, 2))
    assert str(failure_of(events).error) == "tensor missing"
    assert isinstance(failure_of(events).error, WeightsError)
    assert len(events) == 2


def test_an_engine_that_fails_is_told_in_one_line_with_its_rows(
    model: StubModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(engine: StubEngine) -> None:
        raise RuntimeError("first line\n  second line")

    monkeypatch.setattr(StubEngine, "step", step)
    failure = failure_of(run_alone(settings_of(tmp_path), book_of(tmp_path, 1, 2)))
    assert isinstance(failure.error, RunFailed)
    assert str(failure.error) == "RuntimeError: first line second line"
    assert failure.row_ids == ("row0",)


def test_a_store_that_fails_is_told_without_the_rows_that_happen_to_be_in_the_engine(
    model: StubModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put_if_absent(store: LocalStore, key: str, data: bytes) -> bool:
        raise StoreError("create", store.uri_of(key), "ENOSPC")

    monkeypatch.setattr(LocalStore, "put_if_absent", put_if_absent)
    failure = failure_of(run_alone(settings_of(tmp_path), book_of(tmp_path, 100, 2)))
    assert isinstance(failure.error, StoreError)
    assert failure.row_ids == ()


def test_a_manifest_that_has_changed_since_it_was_planned_is_told(model: StubModel, tmp_path: Path) -> None:
    book = book_of(tmp_path, 10, 5)
    write_manifest(tmp_path / "m.parquet", [text_row("row0", IMAGE)])
    failure = failure_of(run_alone(settings_of(tmp_path), book))
    assert isinstance(failure.error, ManifestError)
    assert "the file has changed since" in str(failure.error)


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
    worker = Worker(settings_of(tmp_path, max_rows_in_flight=2), lambda event: None)
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
    worker = Worker(settings_of(folder, max_rows_in_flight=1), events.append)
    settle, settled = Settlement.settle, list[int]()

    def settle_and_drain(settlement: Settlement, segment: OpenSegment, outcome: Any) -> None:
        settled.append(outcome.row)
        if len(settled) == num_done:
            worker.drain(deadline_s)
        settle(settlement, segment, outcome)

    patch.setattr(Settlement, "settle", settle_and_drain)
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

    def unbegun(self) -> set[str]:
        return super().unbegun() - set(self.begun)

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
    monkeypatch.setattr("pipeline.worker.Engine", NarrowEngine)
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


@pytest.mark.parametrize("bad", [{"max_rows_in_flight": 0}, {"fetch_threads": 0}, {"image_quality": 101}])
def test_settings_that_make_no_sense_are_refused(bad: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"must be .*, got {next(iter(bad.values()))}"):
        settings_of(tmp_path, **bad)
