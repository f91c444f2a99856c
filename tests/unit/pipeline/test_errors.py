"""Errors and events travel from Ray's worker processes to the driver: nothing of them may be lost on the way."""

import importlib
import pickle
import pkgutil

import pytest

import dimoo_core
import jobs
import manifests
import pipeline
from dimoo_core.errors import ConfigError, DimooError
from manifests.errors import RowFailure
from manifests.files.plan import Segment
from pipeline.errors import RunFailed
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import (
    Lease,
    SegmentCommitted,
    WorkerDied,
    WorkerDrained,
    WorkerDraining,
    WorkerEnded,
    WorkerFailed,
    WorkerProgress,
    WorkerReady,
)
from pipeline.storage.errors import AccessDenied, BucketNotFound, ObjectNotFound, StoreError
from tests.support.run_settings import cpu_settings


def every_error() -> set[type[DimooError]]:
    for package in (dimoo_core, manifests, pipeline, jobs):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    found = [DimooError]
    for error in found:
        found += error.__subclasses__()
    return set(found)


def instance(error: type[DimooError]) -> DimooError:
    if issubclass(error, StoreError):
        return error("read", "s3://b/k", "SlowDown", "wait", True)
    return error("what is wrong")


def test_errors_survive_the_way_between_processes() -> None:
    errors = every_error()
    assert {ConfigError, RunFailed, AccessDenied} < errors
    for error in errors:
        sent = instance(error)
        received = pickle.loads(pickle.dumps(sent))
        assert type(received) is error
        assert (str(received), received.args, vars(received)) == (str(sent), sent.args, vars(sent))


def test_a_store_error_keeps_what_callers_ask_it_for() -> None:
    for error in (StoreError, ObjectNotFound, BucketNotFound, AccessDenied):
        received = pickle.loads(pickle.dumps(instance(error)))
        assert (received.code, received.uri, received.retryable) == ("SlowDown", "s3://b/k", True)


@pytest.mark.parametrize(
    "value",
    [
        WorkerReady(1.5),
        WorkerDraining(),
        WorkerDrained(),
        WorkerEnded(),
        WorkerDied("killed"),
        SegmentCommitted("0000000-00000", RunTotals(1, 2)),
        WorkerProgress(num_done=1, num_failed=2, num_steps=3, num_tokens=4, engine_busy_s=5.0, engine_span_s=6.0),
        Lease(Segment(0, 0, "m.parquet", 0, 0, 4), {3: 1}),
        cpu_settings("out", model="m"),
        RowFailure(1, "a", "fetch", "E", "m"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_sent_arrives_equal(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("error", [ConfigError("x"), RunFailed("x")])
def test_a_failure_arrives_with_its_error_and_rows(error: DimooError) -> None:
    received = pickle.loads(pickle.dumps(WorkerFailed(error, ("a", "b"))))
    assert type(received.error) is type(error)
    assert str(received.error) == "x"
    assert received.row_ids == ("a", "b")
