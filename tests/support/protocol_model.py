"""A model of the commit protocol, small enough to look at every state it can get into.

A run of two segments: the first has a row that is done and one that fails, the second one that is done. A driver of
epoch 2 with two workers starts on what a driver of epoch 1 has left: a worker that was taken for dead and goes on, the
zombie. Any process may crash before, at or after any request; a request of a crashed process may still arrive at any
later moment; any answer may be lost. A crashed worker is replaced, a crashed driver started again with the next epoch,
and its workers are zombies from then on.

What the steps of a worker and of a driver are, and in which order, is taken from the product by
``test_the_model_makes_the_requests_that_the_product_makes``.
"""

from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

NUM_SEGMENTS = 2
HAS_FAILURES = (True, False)


class Part(NamedTuple):
    """A committed segment: who wrote it, and which rows a reader finds in it."""

    writer: int
    epoch: int
    rows: int
    is_damaged: bool = False


class Files(NamedTuple):
    """What lies in the store, one entry a segment where there is one."""

    epoch: int = 1
    images: tuple[bool, ...] = (False,) * NUM_SEGMENTS
    parts: tuple[Part | None, ...] = (None,) * NUM_SEGMENTS
    failures: tuple[bool, ...] = (False,) * NUM_SEGMENTS
    success: bool = False


class Worker(NamedTuple):
    """``at`` is the request that it makes next; ``idle`` without a lease, ``stopped`` after it was fenced off."""

    name: int
    epoch: int
    at: str = "idle"
    segment: int = -1


class Driver(NamedTuple):
    """``leases`` has the name of the worker for each segment, -1 for nobody, -2 for done."""

    epoch: int
    at: str = "claim"
    leases: tuple[int, ...] = (-1,) * NUM_SEGMENTS


_PLACE_OF_WORKER = itemgetter(1, 2, 3)


class State(NamedTuple):
    """Everything at one moment; ``late`` are requests of crashed processes that have not arrived."""

    files: Files
    driver: Driver
    workers: tuple[Worker, ...]
    late: frozenset[tuple[str, int, int, int]] = frozenset()
    num_crashes: int = 0
    num_names: int = 3

    @property
    def num_late(self) -> int:
        """How many requests may still arrive, or never."""
        return len(self.late)


class Rules(NamedTuple):
    """The protocol; other values are mistakes that a check has to find."""

    worker_steps: tuple[str, ...] = ("image", "fence", "part", "failures", "report")
    part_only_if_absent: bool = True
    lists_parts_at_start: bool = True
    lists_parts_at_end: bool = True
    leases_again: bool = True
    max_crashes: int = 1


def first_state() -> State:
    """The zombie has a lease on the first segment; the driver has claimed nothing yet."""
    return State(Files(), Driver(2), (Worker(0, 1, "image", 0), Worker(1, 2), Worker(2, 2)))


class Model:
    """The transitions of one set of rules."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()

    def next_states(self, state: State) -> Iterator[State]:
        """Every state that one step of one process, one crash or one late request leads to."""
        for index, worker in enumerate(state.workers):
            yield from self._work(state, index, worker)
        yield from self._drive(state)
        yield from self._arrivals(state)

    def shortened(self, state: State) -> State:
        """The state without what cannot matter any more, and with workers named by what they are at."""
        late = state.late
        if late:
            arriving = (request for request in late if self._after(state.files, *request) != state.files)
            late = frozenset((request, segment, -4, epoch) for request, segment, _, epoch in arriving)
        epoch, at, leases = state.driver
        kept = [worker for worker in state.workers if worker.at not in ("stopped", "dead") or worker.name in leases]
        kept.sort(key=_PLACE_OF_WORKER)
        names = {worker.name: index for index, worker in enumerate(kept)}
        files = state.files
        if any(part and part.writer != -3 for part in files.parts):
            files = files._replace(parts=tuple(part and part._replace(writer=-3) for part in files.parts))
        return state._replace(
            files=files,
            driver=Driver(epoch, at, tuple([names[lease] if lease >= 0 else lease for lease in leases])),
            workers=tuple([Worker(names[worker.name], *worker[1:]) for worker in kept]),
            late=late,
            num_names=len(kept),
        )

    def _arrivals(self, state: State) -> Iterator[State]:
        for request in state.late:
            yield state._replace(files=self._after(state.files, *request), late=state.late - {request})

    def _after(self, files: Files, request: str, segment: int, writer: int, epoch: int) -> Files:
        """The store after a request has arrived."""
        if request == "image":
            return files._replace(images=_with(files.images, segment, True))
        if request == "part":
            if files.parts[segment] is not None and self.rules.part_only_if_absent:
                return files
            return files._replace(parts=_with(files.parts, segment, Part(writer, epoch, 1 + HAS_FAILURES[segment])))
        if request == "failures":
            return files._replace(failures=_with(files.failures, segment, True))
        assert request == "success"
        return files._replace(success=True)

    def _work(self, state: State, index: int, worker: Worker) -> Iterator[State]:
        if worker.at in ("idle", "stopped", "dead"):
            return
        following = self._step_after(worker)
        if worker.at == "fence":
            is_fenced = state.files.epoch > worker.epoch
            yield _with_worker(state, index, worker._replace(at="stopped") if is_fenced else following)
        elif worker.at == "report":
            yield self._reported(state, index, worker)
        else:
            request = (worker.at, worker.segment, worker.name, worker.epoch)
            arrived = state._replace(files=self._after(state.files, *request))
            yield _with_worker(arrived, index, following)
            yield arrived  # the answer was lost: the same request again
            yield from self._crashes(arrived, index, worker)
            yield from self._crashes(state._replace(late=state.late | {request}), index, worker)
        yield from self._crashes(state, index, worker)

    def _step_after(self, worker: Worker) -> Worker:
        steps = self.rules.worker_steps
        following = steps[steps.index(worker.at) + 1] if worker.at != steps[-1] else "idle"
        if following == "failures" and not HAS_FAILURES[worker.segment]:
            following = steps[steps.index(following) + 1]
        return worker._replace(at=following)

    def _reported(self, state: State, index: int, worker: Worker) -> State:
        driver = state.driver
        if worker.epoch == driver.epoch and driver.at == "run":
            driver = driver._replace(leases=_with(driver.leases, worker.segment, -2))
        return _with_worker(state._replace(driver=driver), index, worker._replace(at="idle", segment=-1))

    def _crashes(self, state: State, index: int, worker: Worker) -> Iterator[State]:
        if state.num_crashes < self.rules.max_crashes:
            crashed = _with_worker(state, index, worker._replace(at="dead"))
            yield crashed._replace(num_crashes=state.num_crashes + 1)

    def _drive(self, state: State) -> Iterator[State]:
        driver, files = state.driver, state.files
        if driver.at == "claim":
            yield state._replace(files=files._replace(epoch=driver.epoch), driver=driver._replace(at="list"))
        elif driver.at == "list":
            is_seen = [part is not None and self.rules.lists_parts_at_start for part in files.parts]
            leases = tuple(-2 if is_done else -1 for is_done in is_seen)
            yield state._replace(driver=driver._replace(at="run", leases=leases))
        elif driver.at == "run":
            yield from self._share_out(state)
        elif driver.at == "conclude" and (all(files.parts) or not self.rules.lists_parts_at_end):
            written = files._replace(success=True)
            yield state._replace(files=written, driver=driver._replace(at="ended"))
            yield state._replace(files=written)  # the answer was lost
        if driver.at != "ended" and state.num_crashes < self.rules.max_crashes:
            yield self._restarted(state)

    def _share_out(self, state: State) -> Iterator[State]:
        driver = state.driver
        if all(lease == -2 for lease in driver.leases):
            yield state._replace(driver=driver._replace(at="conclude"))
        for segment, lease in enumerate(driver.leases):
            holder = next((each for each in state.workers if each.name == lease), None)
            if holder is not None and holder.at == "dead" and self.rules.leases_again:
                yield self._replaced(state, segment, holder)
            if lease == -1:
                yield from self._lease(state, segment)

    def _lease(self, state: State, segment: int) -> Iterator[State]:
        driver = state.driver
        for index, worker in enumerate(state.workers):
            if worker.epoch == driver.epoch and worker.at == "idle":
                leased = driver._replace(leases=_with(driver.leases, segment, worker.name))
                first = worker._replace(at=self.rules.worker_steps[0], segment=segment)
                yield _with_worker(state._replace(driver=leased), index, first)

    def _replaced(self, state: State, segment: int, dead: Worker) -> State:
        others = [worker for worker in state.workers if worker != dead]
        fresh = Worker(state.num_names, state.driver.epoch)
        driver = state.driver._replace(leases=_with(state.driver.leases, segment, -1))
        workers = _sorted([*others, fresh])
        return state._replace(driver=driver, workers=workers, num_names=state.num_names + 1)

    def _restarted(self, state: State) -> State:
        """The driver has crashed and was started again, with one worker; the others are zombies now."""
        zombies = [worker for worker in state.workers if worker.at not in ("idle", "stopped", "dead")]
        epoch = state.files.epoch + 1
        return state._replace(
            driver=Driver(epoch),
            workers=_sorted([*zombies, Worker(state.num_names, epoch)]),
            num_crashes=state.num_crashes + 1,
            num_names=state.num_names + 1,
        )


def _with(items: tuple, index: int, item: object) -> tuple:
    return (*items[:index], item, *items[index + 1 :])


def _with_worker(state: State, index: int, worker: Worker) -> State:
    return state._replace(workers=_with(state.workers, index, worker))


def _sorted(workers: list[Worker]) -> tuple[Worker, ...]:
    return tuple(sorted(workers))
