"""The model of the commit protocol with ``dimoo-batch verify --set-aside`` beside the runs.

The first segment is committed and its failed row was retried; the second is what a driver of epoch 2 has still to do,
while a worker of epoch 1 has a request under way to create the part of the first, and one of them is damaged at any
moment. Then somebody gives the two commands as ``verify`` tells: ``--set-aside`` while something is damaged, ``run``
while a part or ``_SUCCESS`` is missing, in any order where both apply, until neither does. Either may crash at any of
its requests, and a set-aside may be taken for dead and go on, a zombie beside its successors.

One assumption is given up on purpose: a removal by a process that was taken for dead may arrive, once. What such a
late removal costs is a segment that has to be made once more; from then on ``is_late`` is set and ``_SUCCESS`` may lie
until the next command.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.support.protocol_model import HAS_FAILURES, Driver, Files, Model, Part, Rules, State, Worker

RETRIED = 0
"""The segment whose failed row is in the part of a retry."""


class SetAsideFiles(NamedTuple):
    """What else lies in the store, the retry's part and copies in ``_damaged/``, and whether a removal was late."""

    has_retry: bool = True
    is_retry_damaged: bool = False
    copied: tuple[bool, ...] = (False,) * len(HAS_FAILURES)
    is_late: bool = False


class Aside(NamedTuple):
    """One ``verify --set-aside``: the number of its next step, the segment that it moves, removals after its time."""

    epoch: int
    step: int = 0
    segment: int = -1
    is_zombie: bool = False
    num_late: int = 0


class SetAsideState(NamedTuple):
    """The state of the runs, and what set-asides add to it; ``late`` are their removals that have not arrived."""

    run: State
    files: SetAsideFiles = SetAsideFiles()
    asides: tuple[Aside, ...] = ()
    late: frozenset[tuple[str, int, int]] = frozenset()
    num_damages: int = 0

    @property
    def num_late(self) -> int:
        """How many requests may still arrive, or never."""
        return len(self.late) + len(self.run.late)


class SetAsideRules(NamedTuple):
    """The protocol; other values are mistakes that a check has to find."""

    steps: tuple[str, ...] = (
        *("claim", "read", "fence", "success", "copy"),
        *("fence", "retry", "fence", "part", "fence", "failures"),
    )
    max_crashes: int = 1
    max_damages: int = 1


REMOVALS = ("success", "retry", "part", "failures")
AT_REST = ("ended", "failed", "dead")
"""Where a driver is that is not at work."""


def first_set_aside_state() -> SetAsideState:
    """A run that has to do its second segment, with a request of a zombie on its way to the first."""
    files = Files(images=(True, False), parts=(Part(-3, 1, 2), None), failures=(True, False))
    return SetAsideState(State(files, Driver(2), (Worker(0, 1, "part", 0), Worker(1, 2))))


class SetAsideModel:
    """The transitions of the run's rules and of one set of rules for setting aside."""

    def __init__(self, rules: SetAsideRules | None = None) -> None:
        self.rules = rules or SetAsideRules()
        self._runs = _Runs(Rules(max_crashes=self.rules.max_crashes))

    def next_states(self, state: SetAsideState) -> Iterator[SetAsideState]:
        """Every state that one step of one process, one crash, a damage or one late request leads to."""
        for following in self._runs.next_states(state.run):
            yield state._replace(run=following)
        yield from self._damages(state)
        yield from self._commands(state)
        for aside in state.asides:
            yield from self._step(state._replace(asides=_without(state.asides, aside)), aside)
        for request in state.late:
            is_late = request[2] < state.run.files.epoch
            yield self._removed(state._replace(late=state.late - {request}), *request, is_late=is_late)

    def shortened(self, state: SetAsideState) -> SetAsideState:
        """The state without what cannot matter any more."""
        late = frozenset(each for each in state.late if self._removed(state, *each, is_late=False) != state)
        return state._replace(run=self._runs.shortened(state.run), late=late)

    def _damages(self, state: SetAsideState) -> Iterator[SetAsideState]:
        if state.num_damages == self.rules.max_damages:
            return
        state = state._replace(num_damages=state.num_damages + 1)
        for segment, part in enumerate(state.run.files.parts):
            if part is not None:
                yield _with_part(state, segment, part._replace(is_damaged=True))
        if state.files.has_retry:
            yield state._replace(files=state.files._replace(is_retry_damaged=True))

    def _commands(self, state: SetAsideState) -> Iterator[SetAsideState]:
        """What somebody types who sees no command at work."""
        run, is_claiming = state.run, "claim" in self.rules.steps
        is_aside_alive = any(not aside.is_zombie for aside in state.asides)
        if run.driver.at not in AT_REST or (is_claiming and is_aside_alive):
            return
        if _damaged_segment(state) is not None and not is_aside_alive:
            yield state._replace(asides=_sorted([*state.asides, Aside(run.files.epoch + is_claiming)]))
        if not all(run.files.parts) or not run.files.success:
            epoch = run.files.epoch + 1
            zombies = [worker for worker in run.workers if worker.at not in ("idle", "stopped", "dead")]
            workers = tuple(sorted([*zombies, Worker(run.num_names, epoch)]))
            started = run._replace(driver=Driver(epoch), workers=workers, num_names=run.num_names + 1)
            yield state._replace(run=started)

    def _step(self, others: SetAsideState, aside: Aside) -> Iterator[SetAsideState]:
        """What a set-aside does next; ``others`` is the state without it."""
        steps, run = self.rules.steps, others.run
        if aside.step == len(steps):
            yield others  # it has ended
            return
        at, following = steps[aside.step], aside._replace(step=aside.step + 1)
        can_crash = run.num_crashes < self.rules.max_crashes
        crashed = others._replace(run=run._replace(num_crashes=run.num_crashes + 1))
        if at == "claim":
            yield _with(others._replace(run=run._replace(files=run.files._replace(epoch=aside.epoch))), following)
        elif at == "read":
            segment = _damaged_segment(others)
            yield others if segment is None else _with(others, following._replace(segment=segment))
        elif at == "fence":
            yield others if run.files.epoch > aside.epoch else _with(others, following)
        elif at == "copy":
            copied = tuple(is_copied or number == aside.segment for number, is_copied in enumerate(others.files.copied))
            yield _with(others._replace(files=others.files._replace(copied=copied)), following)
        else:
            request, is_late = (at, aside.segment, aside.epoch), aside.is_zombie and run.files.epoch > aside.epoch
            arrived, late = self._removed(others, *request, is_late=is_late), aside.num_late + is_late
            yield _with(arrived, following._replace(num_late=late))
            again = aside.step - (steps[aside.step - 1] == "fence")
            yield _with(arrived, aside._replace(step=again, num_late=late))  # the answer was lost
            if can_crash:
                yield arrived._replace(run=arrived.run._replace(num_crashes=run.num_crashes + 1))
                yield crashed._replace(late=others.late | {request})
        if can_crash:
            yield crashed
            if at != "claim" and not aside.is_zombie:
                yield _with(crashed, aside._replace(is_zombie=True))

    def _removed(self, state: SetAsideState, what: str, segment: int, epoch: int, *, is_late: bool) -> SetAsideState:
        """The state after a removal has arrived, late or not."""
        run, files = state.run, state.files
        if what == "success":
            run = run._replace(files=run.files._replace(success=False))
        elif what == "failures":
            failures = tuple(there and number != segment for number, there in enumerate(run.files.failures))
            run = run._replace(files=run.files._replace(failures=failures))
        elif what == "retry" and segment == RETRIED:
            files = files._replace(has_retry=False, is_retry_damaged=False)
        elif what == "part":
            parts = tuple(None if number == segment else part for number, part in enumerate(run.files.parts))
            run = run._replace(files=run.files._replace(parts=parts))
        changed = state._replace(run=run, files=files)
        return changed if changed == state or not is_late else changed._replace(files=files._replace(is_late=True))


class _Runs(Model):
    """Runs that may miss parts at their end, and after whose crash either command may be next."""

    def _drive(self, state: State) -> Iterator[State]:
        yield from super()._drive(state)
        driver = state.driver
        if driver.at == "conclude" and not all(state.files.parts):
            yield state._replace(driver=driver._replace(at="failed"))

    def next_states(self, state: State) -> Iterator[State]:
        if state.driver.at in AT_REST:
            for index, worker in enumerate(state.workers):
                yield from self._work(state, index, worker)
            yield from self._arrivals(state)
        else:
            yield from super().next_states(state)

    def _restarted(self, state: State) -> State:
        """It is left to whoever types commands."""
        return state._replace(driver=state.driver._replace(at="dead"), num_crashes=state.num_crashes + 1)


def _damaged_segment(state: SetAsideState) -> int | None:
    """The one that ``verify`` has findings about."""
    if state.files.is_retry_damaged or (state.files.has_retry and state.run.files.parts[RETRIED] is None):
        return RETRIED
    damaged = (number for number, part in enumerate(state.run.files.parts) if part is not None and part.is_damaged)
    return next(damaged, None)


def _with_part(state: SetAsideState, segment: int, part: Part) -> SetAsideState:
    parts = tuple(part if number == segment else each for number, each in enumerate(state.run.files.parts))
    return state._replace(run=state.run._replace(files=state.run.files._replace(parts=parts)))


def _with(state: SetAsideState, aside: Aside) -> SetAsideState:
    return state._replace(asides=_sorted([*state.asides, aside]))


def _sorted(asides: list[Aside]) -> tuple[Aside, ...]:
    return tuple(sorted(asides))


def _without(asides: tuple[Aside, ...], aside: Aside) -> tuple[Aside, ...]:
    index = asides.index(aside)
    return asides[:index] + asides[index + 1 :]
