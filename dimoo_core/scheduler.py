"""Which waiting requests join the running ones before a step.

The limit is the number of tokens in one forward pass. A request that does not fit lets later, smaller ones pass, but
only so often: after ``max_overtakes`` nothing is admitted before it. Requests leave by themselves when they are done.
"""

from collections import deque
from dataclasses import dataclass, field

from dimoo_core.decoding import Decoding
from dimoo_core.errors import ConfigError
from dimoo_core.step_cache import RequestCache


@dataclass(slots=True, eq=False)
class Slot:
    """A request on its way through the engine."""

    decoding: Decoding
    num_tokens: int  # of all its streams, in its next step
    cache: RequestCache | None = None
    admitted_at_s: float | None = None
    overtaken: int = 0
    tokens_computed: int = 0

    @property
    def num_bytes(self) -> int:
        """Memory that the request keeps between steps, once all of it is allocated."""
        return self.decoding.num_bytes() + (self.cache.num_bytes() if self.cache is not None else 0)


@dataclass(slots=True, eq=False)
class Scheduler:
    """The waiting and the running requests. Not safe to share by threads."""

    max_step_tokens: int
    max_overtakes: int = 64
    waiting: deque[Slot] = field(default_factory=deque)
    running: list[Slot] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.max_step_tokens < 1:
            raise ConfigError(f"engine.max_step_tokens must be at least 1, got {self.max_step_tokens}")

    @property
    def step_tokens(self) -> int:
        """Tokens of the next forward pass."""
        return sum(slot.num_tokens for slot in self.running)

    def can_admit_more(self) -> bool:
        """Nothing is waiting and the running requests leave room: more work would be taken at once."""
        return not self.waiting and self.step_tokens < self.max_step_tokens

    def admit(self, now_s: float) -> None:
        """Move waiting requests that fit to the running ones, in order of arrival.

        A request larger than the limit runs when nothing else does: whether it fits is for the device to say.
        """
        room = self.max_step_tokens - self.step_tokens
        still_waiting: deque[Slot] = deque()
        is_blocked = False
        for slot in self.waiting:
            fits = slot.num_tokens <= room or not self.running
            if is_blocked or not fits:
                still_waiting.append(slot)
                is_blocked = is_blocked or slot.overtaken >= self.max_overtakes
                continue
            for passed in still_waiting:
                passed.overtaken += 1
                is_blocked = is_blocked or passed.overtaken >= self.max_overtakes
            room -= slot.num_tokens
            if slot.admitted_at_s is None:
                slot.admitted_at_s = now_s
            self.running.append(slot)
        self.waiting = still_waiting

    def shed_half(self) -> None:
        """After a batch that did not fit: send the younger half back to wait, keeping its progress, and aim lower."""
        keep = max(1, len(self.running) // 2)
        shed, self.running = self.running[keep:], self.running[:keep]
        self.waiting.extendleft(reversed(shed))
        self.max_step_tokens = max(1, self.step_tokens)
