"""Which requests make the next step, and which waiting ones join them.

A step has a budget of tokens, and running requests have one of bytes for what they keep between steps. A request with a
cache computes much at its refreshes and little in between, so that running requests may want more than a step holds.
Then some are left out of the step: a request's own step counter stands still meanwhile, and its result is the same.
Those left out are the first to be taken in the next step, and nothing joins before them, so that refreshes spread over
the steps by themselves.
"""

from collections import deque
from dataclasses import dataclass, field

from dimoo_core.decoding.base import Decoding
from dimoo_core.engine.kv_cache import RequestCache
from dimoo_core.errors import ConfigError

UNLIMITED_BYTES = 2**63


@dataclass(slots=True, eq=False)
class RequestState:
    """A request on its way through the engine."""

    decoding: Decoding
    num_tokens: int  # of all its sequences, in its next step
    cache: RequestCache | None = None
    admitted_at_s: float | None = None
    overtaken: int = 0  # by requests that were admitted before it, though they came later
    left_out: int = 0  # of how many steps since its last one
    tokens_computed: int = 0

    @property
    def num_bytes(self) -> int:
        """Memory that the request keeps between steps, once all of it is allocated."""
        return self.decoding.num_bytes() + (self.cache.num_bytes() if self.cache is not None else 0)

    @property
    def has_ended(self) -> bool:
        """Whether no further step is needed, or would be of use."""
        return self.decoding.is_done or self.decoding.wrong_step is not None

    @property
    def peak_tokens(self) -> int:
        """Tokens that no step of it from now on exceeds."""
        return max(self.num_tokens, self.decoding.peak_tokens())


@dataclass(slots=True, eq=False)
class Scheduler:
    """The waiting and the running requests. Not safe to share by threads.

    A request larger than a budget runs when it is alone: whether it fits is up to the device.

    Why a running request waits for at most ``max_step_interval`` steps: of those left out it is one of the first in
    the next step, behind only those that were left out as well. These are taken as they fit, the first in any case.
    If a step is filled to less than half, what remains is larger than half of one, so at most one such step comes
    before a request's turn. All others take more than half a step each of what is before it, and admission keeps the
    peaks of all running requests together below ``(max_step_interval - 2) / 2`` steps.
    """

    max_step_tokens: int
    max_cache_bytes: int = UNLIMITED_BYTES
    max_step_interval: int = 16
    max_overtakes: int = 64
    waiting: deque[RequestState] = field(default_factory=deque)
    running: list[RequestState] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.max_step_tokens < 1:
            raise ConfigError(f"engine.max_step_tokens must be at least 1, got {self.max_step_tokens}")

    @property
    def step_tokens(self) -> int:
        """Tokens of the next forward pass, were every running request in it."""
        return sum(state.num_tokens for state in self.running)

    @property
    def cache_bytes(self) -> int:
        """What the running requests keep between steps."""
        return sum(state.num_bytes for state in self.running)

    def can_admit_more(self) -> bool:
        """Nothing is waiting and the running requests leave room: more work would be taken at once."""
        has_room = self.step_tokens < self.max_step_tokens and self._peaks() < self._max_peaks()
        return not self.waiting and has_room and self.cache_bytes < self.max_cache_bytes

    def next_step(self, now_s: float) -> list[RequestState]:
        """The running requests that make the next step, those that join with it among them, in order of admission."""
        by_turn = sorted(self.running, key=lambda state: -state.left_out)  # stable: among equals the older is first
        chosen: set[int] = set()
        room = self.max_step_tokens
        for state in by_turn:
            if state.num_tokens <= room or not chosen:
                chosen.add(id(state))
                room -= state.num_tokens
        for state in self.running:
            state.left_out = 0 if id(state) in chosen else state.left_out + 1
        step = [state for state in self.running if id(state) in chosen]
        return step if len(step) < len(self.running) else step + self._admit(room, now_s)

    def _admit(self, room: int, now_s: float) -> list[RequestState]:
        """Move waiting requests that fit to the running ones, in order of arrival.

        One that does not fit lets later, smaller ones pass, but only so often: after ``max_overtakes`` nothing is
        admitted before it.
        """
        admitted: list[RequestState] = []
        still_waiting: deque[RequestState] = deque()
        kept, peaks, is_blocked = self.cache_bytes, self._peaks(), False
        for state in self.waiting:
            has_bytes = state.num_bytes == 0 or kept == 0 or kept + state.num_bytes <= self.max_cache_bytes
            peak = self._peak(state)
            fits = has_bytes and state.num_tokens <= room and peaks + peak <= self._max_peaks()
            if is_blocked or not (fits or not self.running):
                still_waiting.append(state)
                is_blocked = is_blocked or state.overtaken >= self.max_overtakes
                continue
            for passed in still_waiting:
                passed.overtaken += 1
                is_blocked = is_blocked or passed.overtaken >= self.max_overtakes
            room, kept, peaks = room - state.num_tokens, kept + state.num_bytes, peaks + peak
            if state.admitted_at_s is None:
                state.admitted_at_s = now_s
            self.running.append(state)
            admitted.append(state)
        self.waiting = still_waiting
        return admitted

    def _peak(self, state: RequestState) -> int:
        return min(state.peak_tokens, self.max_step_tokens)

    def _peaks(self) -> int:
        return sum(map(self._peak, self.running))

    def _max_peaks(self) -> int:
        return (self.max_step_interval - 2) * self.max_step_tokens // 2

    def halve_steps(self, step: list[RequestState]) -> list[RequestState]:
        """After a step that did not fit: aim at half of it. Returns the youngest, which are too many for that."""
        self.max_step_tokens = max(1, sum(state.num_tokens for state in step) // 2)
        num_kept, peaks = len(self.running), self._peaks()
        while num_kept > 1 and peaks > self._max_peaks():
            num_kept -= 1
            peaks -= self._peak(self.running[num_kept])
        return self.running[num_kept:]

    def preempt(self, states: list[RequestState]) -> None:
        """Let running requests wait again, before all others."""
        gone = set(map(id, states))
        self.running = [state for state in self.running if id(state) not in gone]
        self.waiting.extendleft(reversed(states))
