"""The loop of a worker around a model that computes nothing."""

import weakref
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.errors import ConfigError, WeightsError
from manifests.errors import ManifestError
from pipeline.driver.coordinator import LEASES_PER_WORKER, Coordinator
from pipeline.driver.local_pool import LocalPool
from pipeline.errors import RunFailed
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import (
    Event,
    SegmentCommitted,
    WorkerEnded,
    WorkerFailed,
    WorkerProgress,
    WorkerReady,
)
from pipeline.protocol.settings import ImageOutput, PipelineSettings
from pipeline.storage.errors import StoreError
from pipeline.storage.local import LocalStore
from pipeline.worker.segment import OpenSegment
from tests.support.manifest_rows import text_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.stub_model import StubEngine, StubModel, use_stub_model
from tests.support.worker_run import IMAGE, book_of, run_alone, settings_of


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> StubModel:
    return use_stub_model(monkeypatch)


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

    monkeypatch.setattr("pipeline.worker.prefetch.OpenSegment", Counted)
    return counts


def test_rows_in_flight_are_bounded_however_long_the_manifest_is(
    model: StubModel, open_segments: list[int], tmp_path: Path
) -> None:
    book = book_of(tmp_path, 3000, 50)
    pool = LocalPool(settings_of(tmp_path, pipeline=PipelineSettings(max_rows_in_flight=16)))
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

    monkeypatch.setattr("pipeline.worker.worker.load_model", load_model)
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


@pytest.mark.parametrize("bad", [{"max_rows_in_flight": 0}, {"fetch_threads": 0}, {"quality": 101}])
def test_settings_that_make_no_sense_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"must be .*, got {next(iter(bad.values()))}"):
        (ImageOutput if "quality" in bad else PipelineSettings)(**bad)
