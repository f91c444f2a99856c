"""Looks at every state that a model of the commit protocol can get into, and checks what readers are promised.

``python -m tests.support.protocol_search 2`` looks at all states of a run with two crashes, which takes minutes;
``python -m tests.support.protocol_search 1 set-aside`` at those with damage that is set aside.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from tests.support.protocol_model import HAS_FAILURES, Model, Rules, State, first_state
from tests.support.set_aside_model import (
    RETRIED,
    SetAsideModel,
    SetAsideRules,
    SetAsideState,
    first_set_aside_state,
)


class Violation(AssertionError):
    """A promise was broken on the way to a state."""


class _AnyState(Protocol):
    @property
    def num_late(self) -> int: ...

    def __hash__(self) -> int: ...


_State = TypeVar("_State", bound=_AnyState)


class _AnyModel(Protocol[_State]):
    def next_states(self, state: _State) -> Iterator[_State]: ...

    def shortened(self, state: _State) -> _State: ...


def explore(
    model: _AnyModel[_State],
    start: _State,
    check: Callable[[_State, _State], None],
    check_end: Callable[[_State], None],
) -> tuple[int, int]:
    """Visit every state that can be reached; the number of states, and of those in which nothing can happen any more.

    Raises:
        Violation: ``check`` found one at a step, or ``check_end`` in such an end.
    """
    seen, raw, todo, num_ends = {start}, {start}, deque([start]), 0
    while todo:
        state = todo.popleft()  # a mistake may make the states endless, so those that are near come first
        is_end = True
        for following in model.next_states(state):
            check(state, following)
            is_end &= following == state or following.num_late < state.num_late  # those may never arrive
            if following in raw:
                continue
            raw.add(following)
            short = model.shortened(following)
            if short not in seen:
                seen.add(short)
                todo.append(short)
        if is_end:
            num_ends += 1
            check_end(state)
    return len(seen), num_ends


def check_step(before: State, after: State) -> None:
    """What must hold for readers at every moment.

    Raises:
        Violation: A part changed or vanished, or a row of a part has no image yet, or a zombie came through the fence,
            or success was told too early.
    """
    for segment, part in enumerate(after.files.parts):
        earlier = before.files.parts[segment]
        if earlier is not None and part != earlier:
            raise Violation(f"the part of segment {segment} has changed: its rows are there twice")
    _check_images_and_fence(before, after)
    if after.files.success and not all(after.files.parts):
        raise Violation("success without every part")


def check_set_aside_step(before: SetAsideState, after: SetAsideState) -> None:
    """What must hold at every moment where damage may be set aside.

    Raises:
        Violation: As ``check_step``, but a part may be damaged or moved; what is moved must have been copied and must
            leave a segment that a start accepts, and a process that was taken for dead may remove one object at most.
    """
    for segment, part in enumerate(after.run.files.parts):
        earlier = before.run.files.parts[segment]
        if part is None:
            if earlier is not None and not after.files.copied[segment]:
                raise Violation(f"the part of segment {segment} is removed and was not copied")
            if segment == RETRIED and after.files.has_retry:
                raise Violation("a retry's part is there without the one before it: no start goes on from that")
        elif earlier is not None and part._replace(is_damaged=True) != earlier._replace(is_damaged=True):
            raise Violation(f"the part of segment {segment} has changed: its rows are there twice")
    _check_images_and_fence(before.run, after.run)
    if after.run.files.success and not all(after.run.files.parts) and not after.files.is_late:
        raise Violation("success without every part")
    if any(aside.num_late > 1 for aside in after.asides):
        raise Violation("a set-aside goes on to remove after another command has taken over")


def _check_images_and_fence(before: State, after: State) -> None:
    for segment, part in enumerate(after.files.parts):
        if part is not None and not after.files.images[segment]:
            raise Violation(f"a reader sees a row of segment {segment} whose image is not there")
    for old, new in zip(before.workers, after.workers, strict=False):
        if old.name == new.name and (old.at, new.at) == ("fence", "part") and old.epoch < before.files.epoch:
            raise Violation("a worker of an older epoch goes on to commit")


def check_complete(state: State) -> None:
    """What must hold when nothing can happen any more.

    Raises:
        Violation: Rows are lost.
    """
    rows = sum(part.rows for part in state.files.parts if part is not None)
    if rows != sum(1 + has_failure for has_failure in HAS_FAILURES) or not state.files.success:
        raise Violation(f"the run has ended with {rows} rows, success {state.files.success}")


def check_mended(state: SetAsideState) -> None:
    """What must hold when nothing can happen any more, and ``verify`` asks for no further command.

    Raises:
        Violation: Rows are lost, or something damaged is still there.
    """
    check_complete(state.run)
    if any(part is not None and part.is_damaged for part in state.run.files.parts) or state.files.is_retry_damaged:
        raise Violation("what is damaged is still there")


if __name__ == "__main__":
    max_crashes = int(sys.argv[1])
    if sys.argv[2:] == ["set-aside"]:
        aside = SetAsideModel(SetAsideRules(max_crashes=max_crashes))
        found = explore(aside, first_set_aside_state(), check_set_aside_step, check_mended)
    else:
        found = explore(Model(Rules(max_crashes=max_crashes)), first_state(), check_step, check_complete)
    print("{} states, {} ends".format(*found))
