"""Requests of which nothing is known but how many tokens each step computes."""

from collections.abc import Sequence

from dimoo_core.engine.scheduler import RequestState, Scheduler


class PacedDecoding:
    """Takes the given numbers of tokens, step by step, and keeps some bytes in between."""

    def __init__(self, tokens_of_steps: Sequence[int], num_bytes: int = 0) -> None:
        self.left = list(tokens_of_steps)
        self._num_bytes = num_bytes

    def peak_tokens(self) -> int:
        return max(self.left, default=0)

    def num_bytes(self) -> int:
        return self._num_bytes


def paced_state(*tokens_of_steps: int, num_bytes: int = 0) -> RequestState:
    return RequestState(PacedDecoding(tokens_of_steps, num_bytes), tokens_of_steps[0])  # type: ignore[arg-type]


def take_step(scheduler: Scheduler) -> dict[RequestState, int]:
    """One step as the engine runs it: those chosen, with their tokens, move on, and those that are done leave."""
    step = {state: state.num_tokens for state in scheduler.next_step(0.0)}
    for state in step:
        left = state.decoding.left  # type: ignore[attr-defined]
        left.pop(0)
        state.num_tokens = left[0] if left else 0
    scheduler.running = [state for state in scheduler.running if state.decoding.left]  # type: ignore[attr-defined]
    return step
