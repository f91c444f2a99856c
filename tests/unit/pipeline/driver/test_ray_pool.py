"""Actors as the pool sees them, without Ray: a double stands in for its four functions."""

from collections.abc import Sequence
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayTaskError

import pipeline.driver.ray_pool
from dimoo_core.errors import ConfigError
from manifests.files.plan import Segment
from pipeline.driver.ray_pool import RayPool
from pipeline.protocol.messages import Event, Lease, WorkerDied, WorkerReady
from pipeline.protocol.settings import RunSettings
from tests.support.run_settings import cpu_settings

LEASE = Lease(Segment(0, 0, "m.parquet", 0, 0, 1))
SETTINGS = cpu_settings("out", model="m")


class Actor:
    def __init__(self) -> None:
        self.call = self
        self.calls: list[tuple[str, Any]] = []
        self.polls: list[object] = []
        self.node_ref: object = None
        self.answer: list[Event] | Exception = []
        self.is_killed = False

    def remote(self, method: str, *arguments: Any) -> object:
        ref = object()
        self.calls.append((method, arguments))
        if method == "poll":
            self.polls.append(ref)
        if method == "node":
            self.node_ref = ref
        return ref


class RayDouble:
    """``remote``, ``wait``, ``get`` and ``kill``; every poll is answered at once."""

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.options: dict[str, Any] = {}
        self.node = "here"

    def remote(self, **options: Any) -> Any:
        self.options = options
        return lambda actor_class: Factory(self)

    def wait(self, refs: Sequence[object], **options: Any) -> tuple[list[object], list[object]]:
        return list(refs), []

    def get(self, ref: object) -> Any:
        if ref in [actor.node_ref for actor in self.actors]:
            return self.node
        actor = next(actor for actor in self.actors if ref in actor.polls)
        if isinstance(actor.answer, Exception):
            raise actor.answer
        answer, actor.answer = actor.answer, []
        return answer

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": "gone", "Alive": False}, {"NodeID": "here", "Alive": True}]

    def kill(self, actor: Actor) -> None:
        actor.is_killed = True


class Factory:
    def __init__(self, double: RayDouble) -> None:
        self._double = double

    def remote(self, make: type, settings: RunSettings, folder: str) -> Actor:
        self._double.actors.append(Actor())
        return self._double.actors[-1]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> RayDouble:
    double = RayDouble()
    monkeypatch.setattr(pipeline.driver.ray_pool, "ray", double)
    return double


def pool_of(num_workers: int) -> RayPool:
    return RayPool(SETTINGS, num_workers=num_workers, num_cpus=1, num_gpus=0)


def test_actors_are_neither_restarted_nor_are_their_calls_repeated_by_ray(double: RayDouble) -> None:
    pool_of(1)
    assert (double.options["max_restarts"], double.options["max_task_retries"]) == (0, 0)


def test_events_come_with_the_name_of_their_worker(double: RayDouble) -> None:
    pool = pool_of(2)
    names = pool.start()
    double.actors[1].answer = [WorkerReady(1.0)]
    assert pool.poll(0) == [(names[1], WorkerReady(1.0))]
    assert pool.poll(0) == []


@pytest.mark.parametrize(
    "error",
    [
        ActorDiedError(),
        ActorUnavailableError("no answer", b"0" * 16),
        OutOfMemoryError("killed for its memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_worker_that_is_gone_is_a_death_and_what_may_be_left_of_it_is_ended(
    error: Exception, double: RayDouble
) -> None:
    pool = pool_of(2)
    names = pool.start()
    double.actors[0].answer = error
    [(name, event)] = pool.poll(0)
    assert name == names[0]
    assert isinstance(event, WorkerDied)
    assert event.reason
    assert "\n" not in event.reason
    assert double.actors[0].is_killed
    pool.assign(names[0], LEASE)
    assert all(call != "assign" for call, _ in double.actors[0].calls)
    replacement = pool.replace(names[0])
    assert replacement not in names
    pool.assign(replacement, LEASE)
    assert double.actors[2].calls[-1] == ("assign", (LEASE,))


def test_the_reason_of_a_death_is_what_the_constructor_raised(double: RayDouble) -> None:
    pool = pool_of(1)
    pool.start()
    traceback = "Traceback (most recent call last):\n  ...\nModuleNotFoundError: No module named 'torch'"
    double.actors[0].answer = ActorDiedError(RayTaskError("WorkerActor.__init__", traceback, ImportError()))
    [(_, event)] = pool.poll(0)
    assert event == WorkerDied("ModuleNotFoundError: No module named 'torch'")


def test_a_method_that_raises_is_no_death(double: RayDouble) -> None:
    pool = pool_of(1)
    pool.start()
    double.actors[0].answer = RayTaskError("call", "traceback", ValueError("bug"))
    with pytest.raises(RayTaskError):
        pool.poll(0)


def test_stopping_ends_every_actor(double: RayDouble) -> None:
    pool = pool_of(3)
    pool.start()
    pool.stop()
    assert all(actor.is_killed for actor in double.actors)


def test_there_is_at_least_one_worker(double: RayDouble) -> None:
    with pytest.raises(ConfigError, match="workers must be at least 1"):
        pool_of(0)


@pytest.mark.parametrize(("node", "is_by_machine"), [("gone", True), ("here", False)])
def test_a_death_with_its_machine_is_told_from_others(node: str, is_by_machine: bool, double: RayDouble) -> None:
    pool = pool_of(1)
    names = pool.start()
    double.node = node
    double.actors[0].answer = ActorDiedError()
    [(name, event)] = pool.poll(0)
    assert name == names[0]
    assert isinstance(event, WorkerDied)
    assert event.is_by_machine == is_by_machine


def test_a_drain_is_asked_of_the_actor(double: RayDouble) -> None:
    pool = pool_of(1)
    (name,) = pool.start()
    pool.drain(name, 20.0)
    pool.drain("another", None)
    assert [arguments for method, arguments in double.actors[0].calls if method == "drain"] == [(20.0,)]
