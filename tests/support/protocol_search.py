"""Looks at every state that the model of the commit protocol can get into, and checks what readers are promised.

``python -m tests.support.protocol_search 2`` looks at all states with two crashes, which takes minutes.
"""

import sys
from collections.abc import Callable

from tests.support.protocol_model import HAS_FAILURES, Model, Rules, State, first_state


class Violation(AssertionError):
    """A promise was broken on the way to a state."""


def explore(model: Model, start: State, check: Callable[[State, State], None]) -> tuple[int, int]:
    """Visit every state that can be reached; the number of states, and of those in which nothing can happen any more.

    Raises:
        Violation: ``check`` found one, or the run ends without being complete.
    """
    seen, raw, todo, num_ends = {start}, {start}, [start], 0
    while todo:
        state = todo.pop()
        is_end = True
        for following in model.next_states(state):
            check(state, following)
            is_end &= following == state or len(following.late) < len(state.late)  # those may never arrive
            if following in raw:
                continue
            raw.add(following)
            short = model.shortened(following)
            if short not in seen:
                seen.add(short)
                todo.append(short)
        if is_end:
            num_ends += 1
            check_complete(state)
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
        if part is not None and not after.files.images[segment]:
            raise Violation(f"a reader sees a row of segment {segment} whose image is not there")
    for old, new in zip(before.workers, after.workers, strict=False):
        if old.name == new.name and (old.at, new.at) == ("fence", "part") and old.epoch < before.files.epoch:
            raise Violation("a worker of an older epoch goes on to commit")
    if after.files.success and not all(after.files.parts):
        raise Violation("success without every part")


def check_complete(state: State) -> None:
    """What must hold when nothing can happen any more.

    Raises:
        Violation: Rows are lost.
    """
    rows = sum(part.rows for part in state.files.parts if part is not None)
    if rows != sum(1 + has_failure for has_failure in HAS_FAILURES) or not state.files.success:
        raise Violation(f"the run has ended with {rows} rows, success {state.files.success}")


if __name__ == "__main__":
    num_states, num_ends = explore(Model(Rules(max_crashes=int(sys.argv[1]))), first_state(), check_step)
    print(f"{num_states} states, {num_ends} ends")
