"""Step-level continuous batching: requests of any task and size join and leave between steps.

The engine batches; what a step means for a request is in ``image_decoding``, ``text_decoding`` and
``choice_decoding``. Not safe to share by threads: one thread owns it.
"""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dimoo_core.decoding.base import Decoding, StepTrace
from dimoo_core.decoding.choice import ChoiceDecoding
from dimoo_core.decoding.image import ImageDecoding
from dimoo_core.decoding.text import TextDecoding
from dimoo_core.engine.kv_cache import StepCache, cache_for
from dimoo_core.engine.memory import cache_budget
from dimoo_core.engine.scheduler import RequestState, Scheduler
from dimoo_core.engine.step_batch import StepBatch
from dimoo_core.errors import ENDS_THE_PROCESS, BatchTooLarge, LogitsNotFinite, RequestTimedOut
from dimoo_core.model.batch_invariance import FREE, InvariancePolicy, probe_invariance_policy
from dimoo_core.model.float8 import FLOAT8
from dimoo_core.model.fused_ops import EAGER, compiled
from dimoo_core.model.kv_pool import allocator_within
from dimoo_core.model.transformer import Transformer
from dimoo_core.request.request import ChoiceResult, ImageResult, Request, RequestFailed, Result, TextResult
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import ChoiceSettings, EngineConfig, ImageSettings, TextSettings

_DECODINGS: Mapping[type, Callable[[Request, SpecialTokens, torch.device], Decoding]] = {
    ImageSettings: ImageDecoding,
    TextSettings: TextDecoding,
    ChoiceSettings: ChoiceDecoding,
}

_REMEDY = {
    "float16": "set dtype=bfloat16 or dtype=float32",
    "float8": "set dtype=bfloat16 or dtype=float32",
    "bfloat16": "set dtype=float32",
    "float32": "the weights or the adapter are damaged: set model and adapter to whole ones",
}
"""What to do by the type that overflowed."""


@dataclass(slots=True)
class EngineStats:
    """Counts since the engine was made."""

    num_steps: int = 0
    num_tokens: int = 0  # that went through the transformer
    num_tokens_shared: int = 0  # that did not, since another request had the same sequence
    num_tokens_reused: int = 0  # that did not, since what an earlier step gave for them was kept
    busy_s: float = 0.0


class Engine:
    """Runs requests on one transformer.

    Args:
        transformer: Loaded weights; how it computes its rows is set here.
        observe: Called after each step of each request, for tests and replays.
    """

    def __init__(
        self,
        transformer: Transformer,
        tokens: SpecialTokens,
        config: EngineConfig | None = None,
        observe: Callable[[str, StepTrace], None] | None = None,
        *,
        max_request_s: float | None = None,
    ) -> None:
        self._max_request_s = max_request_s
        self.config = config or EngineConfig()
        self.stats = EngineStats()
        self._transformer = transformer
        self._tokens = tokens
        self._observe = observe
        transformer.invariance_policy = _invariance_policy(transformer, self.config)
        transformer.elementwise = compiled() if self.config.compile else EAGER
        max_step_tokens, max_cache_bytes = self.config.max_step_tokens, self.config.max_cache_bytes
        if max_cache_bytes is None:
            max_cache_bytes = cache_budget(transformer, tokens, max_step_tokens)
        self._max_cache_bytes = max_cache_bytes
        self._blocks = allocator_within(max_cache_bytes, transformer.config, transformer.device, transformer.dtype)
        self._scheduler = Scheduler(max_step_tokens, max_cache_bytes, self.config.max_step_interval)

    @property
    def num_unfinished(self) -> int:
        """Requests submitted and not yet returned."""
        return len(self._scheduler.waiting) + len(self._scheduler.running)

    def can_admit_more(self) -> bool:
        """Whether a request submitted now would very likely run in the next step."""
        return self._scheduler.can_admit_more()

    def submit(self, request: Request) -> None:
        """Queue a request; it joins at the next step with room for it."""
        decoding = self._decoding(request)
        cache = cache_for(decoding, self._blocks)
        self._scheduler.waiting.append(RequestState(decoding, request.num_tokens, cache))

    def queued(self) -> set[str]:
        """Ids of the requests that wait for room and were in no step yet."""
        return {state.decoding.request.request_id for state in self._scheduler.waiting if state.admitted_at_s is None}

    def abort(self, request_id: str) -> None:
        """Forget a request that is not begun; no result is returned for it.

        Raises:
            ValueError: There is no such request.
        """
        if request_id not in self.queued():
            raise ValueError(f"request {request_id!r} does not wait for its first step")
        waiting = self._scheduler.waiting
        waiting.remove(next(state for state in waiting if state.decoding.request.request_id == request_id))

    def _decoding(self, request: Request) -> Decoding:
        return _DECODINGS[type(request.settings)](request, self._tokens, self._transformer.device)

    def step(self) -> list[Result]:
        """Run one denoising step of the running requests that it has room for and return those that ended with it.

        A step that does not fit the device's memory is halved and tried again; if one request alone does not fit,
        others give up what they keep, and start again later; a request that does not fit with nothing beside it is
        returned as failed, and so is one whose numbers are not finite, or that has run for longer than
        ``max_request_s``. A step that fails for another reason is halved in the same way, until the request that it
        fails with is alone and is returned as failed.
        """
        started_s = time.perf_counter()
        step = [state for state in self._scheduler.next_step(started_s) if not state.decoding.is_done]
        results: list[Result] = []
        if step:
            try:
                self._advance(step, results)
            except ENDS_THE_PROCESS:
                raise
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)  # they hold the tensors of the pass that failed
                results += self._shrink(step, error)
        self.stats.busy_s += time.perf_counter() - started_s
        return results + self._retire() + self._expire()

    @torch.inference_mode()
    def _advance(self, states: list[RequestState], failed: list[Result]) -> None:
        """Run one step of these requests; those that fail when it is their turn are added to ``failed`` at once."""
        batch = StepBatch(states)
        logits = batch.logits(self._transformer)
        for state, num_computed, num_shared in batch.num_tokens():
            state.tokens_computed += num_computed
            self.stats.num_tokens += num_computed
            self.stats.num_tokens_shared += num_shared
            self.stats.num_tokens_reused += state.decoding.request.num_tokens - num_computed - num_shared
        for state, of_sequences in zip(states, logits, strict=True):
            try:
                self._advance_one(state, of_sequences)
            except (torch.OutOfMemoryError, *ENDS_THE_PROCESS):
                raise
            except BaseException as error:
                failed.append(self._failed(state, error))
        self.stats.num_steps += 1

    def _advance_one(self, state: RequestState, logits: list[Tensor | None]) -> None:
        if isinstance(state.cache, StepCache) and (extents := state.cache.extents()):
            state.decoding.look_at(*extents)
        trace = state.decoding.advance(logits)
        state.num_tokens = (state.cache or state.decoding).num_tokens()
        if isinstance(state.cache, StepCache):
            trace = replace(trace, cache=state.cache)
        if self._observe is not None:
            self._observe(state.decoding.request.request_id, trace)

    def _failed(self, state: RequestState, error: BaseException) -> RequestFailed:
        """Give up a running request."""
        self._scheduler.running.remove(state)
        return RequestFailed(request_id=state.decoding.request.request_id, error=error)

    def _shrink(self, step: list[RequestState], error: BaseException) -> list[Result]:
        scheduler = self._scheduler
        step = [state for state in step if state in scheduler.running]  # others of it have failed by themselves
        if len(step) > 1:
            too_many = scheduler.halve_steps(step)
            if not isinstance(error, torch.OutOfMemoryError):  # some caches may have taken the step in already
                too_many += [state for state in step if state.num_bytes and state not in too_many]
            self._preempt(too_many)
            return []
        (state,) = step
        if not isinstance(error, torch.OutOfMemoryError):
            scheduler.max_step_tokens = self.config.max_step_tokens
            return [self._failed(state, error)]
        scheduler.max_step_tokens = self.config.max_step_tokens  # it was not steps that were too large
        if keeping := [other for other in scheduler.running if other is not state and other.num_bytes]:
            self._preempt(keeping[len(keeping) // 2 :])
            scheduler.max_cache_bytes = scheduler.cache_bytes
            return []
        scheduler.max_cache_bytes = self._max_cache_bytes
        torch.cuda.empty_cache()
        too_large = BatchTooLarge(
            f"{state.num_tokens} tokens do not fit into the memory of {self._transformer.device} even alone: "
            "ask for a smaller image or a shorter answer"
        )
        too_large.__cause__ = error
        return [self._failed(state, too_large)]

    def _preempt(self, states: list[RequestState]) -> None:
        """Let running requests wait again. Those that keep something give it up and will start again."""
        for state in states:
            if state.num_bytes:
                state.decoding = self._decoding(state.decoding.request)
                state.cache = cache_for(state.decoding, self._blocks)
                state.num_tokens = state.decoding.request.num_tokens
        self._scheduler.preempt(states)
        self._blocks.reclaim()
        torch.cuda.empty_cache()

    def _retire(self) -> list[Result]:
        now_s = time.perf_counter()
        ended = [state for state in self._scheduler.running if state.has_ended]
        self._scheduler.running = [state for state in self._scheduler.running if not state.has_ended]
        self._blocks.reclaim()
        return [self._checked_result(state, now_s) for state in ended]

    def _checked_result(self, state: RequestState, now_s: float) -> Result:
        """A result's numbers may turn out not to be finite when it is fetched."""
        decoding = state.decoding
        result = _result(state, now_s) if decoding.wrong_step is None else None
        if result is not None and decoding.wrong_step is None:
            return result
        return RequestFailed(request_id=decoding.request.request_id, error=self._not_finite(decoding))

    def _not_finite(self, decoding: Decoding) -> LogitsNotFinite:
        assert decoding.wrong_step is not None
        dtype = self._transformer.weight_dtype
        name = "float8" if dtype == FLOAT8 else str(dtype).removeprefix("torch.")
        return LogitsNotFinite(f"logits of step {decoding.wrong_step + 1} are not finite in {name}: {_REMEDY[name]}")

    def _expire(self) -> list[Result]:
        """End running requests whose time is up; a preempted one keeps its first step's time."""
        limit_s = self._max_request_s
        if limit_s is None:
            return []
        first_s = time.perf_counter() - limit_s
        late = [
            state
            for state in self._scheduler.running
            if state.admitted_at_s is not None and state.admitted_at_s < first_s
        ]
        self._scheduler.running = [state for state in self._scheduler.running if state not in late]
        return [_timed_out(state, limit_s) for state in late]


def _invariance_policy(transformer: Transformer, config: EngineConfig) -> InvariancePolicy:
    is_auto_off = transformer.device.type == "cuda" or config.compile
    if config.batch_invariance == "off" or (config.batch_invariance == "auto" and is_auto_off):
        return FREE
    return probe_invariance_policy(transformer.linear_shapes(), transformer.device)


def _timed_out(state: RequestState, limit_s: float) -> RequestFailed:
    decoding = state.decoding
    error = RequestTimedOut(
        f"not done {limit_s:g} s after its first step, having run {decoding.num_steps_run} steps: allow more time, or "
        "ask for fewer steps"
    )
    return RequestFailed(request_id=decoding.request.request_id, error=error)


def _result(state: RequestState, now_s: float) -> Result:
    decoding = state.decoding
    assert state.admitted_at_s is not None
    counts: dict[str, Any] = {
        "request_id": decoding.request.request_id,
        "num_steps": decoding.num_steps_run,
        "num_tokens": state.tokens_computed,
        "engine_s": now_s - state.admitted_at_s,
    }
    if isinstance(decoding, ImageDecoding):
        return ImageResult(vq_codes=decoding.vq_codes(), **counts)
    if isinstance(decoding, ChoiceDecoding):
        return ChoiceResult(probabilities=decoding.probabilities(), **counts)
    assert isinstance(decoding, TextDecoding)
    token_ids, finish_reason = decoding.answer()
    return TextResult(token_ids=token_ids, finish_reason=finish_reason, **counts)
