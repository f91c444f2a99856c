"""Timing one case: the engine and the plain loop by turns, on the same weights, in the same minutes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.case import Case
from benchmarks.plain import PlainTransformer, generate_plainly
from benchmarks.shape import Shape
from dimoo_core.engine.engine import Engine
from dimoo_core.engine.memory import cache_budget
from dimoo_core.model.transformer import Transformer
from dimoo_core.request.request import Request, RequestFailed, Result
from dimoo_core.settings import EngineConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One timed run."""

    seconds: float
    process_s: float  # of the process's CPU time, all threads together
    num_steps: int  # forward passes of one request
    num_tokens: int  # that went through the transformer
    peak_memory_bytes: int | None  # of the allocator, weights included; None without CUDA


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTiming:
    """Alternated runs of one case; plain runs have one request, whatever the batch."""

    steps_measured: int
    engine_runs: list[Run]
    plain_runs: list[Run]


class Subject:
    """One set of weights on one device, and both ways of running it.

    Args:
        transformer: What the engine runs.
        shape: Its shape.
        plain: What the plain loop runs, if the engine's weights are rounded and its own are not.
        compile: As of ``EngineConfig``.
    """

    def __init__(
        self, transformer: Transformer, shape: Shape, plain: Transformer | None = None, *, compile: bool = False
    ) -> None:
        self.shape = shape
        self.transformer = transformer
        self.device = transformer.device
        self._plain = PlainTransformer(plain or transformer)
        self._compile = compile
        self._cache_bytes: dict[int, int] = {}

    def run_engine(self, requests: Sequence[Request]) -> Run:
        """Run all requests together.

        Raises:
            torch.OutOfMemoryError: If they do not fit together.
        """
        num_tokens = sum(request.num_tokens for request in requests)
        config = EngineConfig(
            max_step_tokens=num_tokens + 1, max_cache_bytes=self._budget(num_tokens + 1), compile=self._compile
        )
        engine = Engine(self.transformer, self.shape.tokens, config)
        for request in requests:
            engine.submit(request)
        started = self._start()
        results: list[Result] = []
        while engine.num_unfinished:
            results += engine.step()
            if engine.num_unfinished and not engine.can_admit_more():  # some were sent back to wait
                break
        elapsed = self._since(started)
        finished = [result for result in results if not isinstance(result, RequestFailed)]
        if len(finished) < len(requests):
            raise torch.OutOfMemoryError(f"{len(requests)} requests of {num_tokens} tokens do not fit together")
        num_steps = max(result.num_steps for result in finished)
        return self._run(elapsed, num_steps, engine.stats.num_tokens)

    def _budget(self, num_tokens: int) -> int:
        """As an engine asks for it; asked once, since on a GPU the answer takes a whole step."""
        if num_tokens not in self._cache_bytes:
            self._cache_bytes[num_tokens] = cache_budget(self.transformer, self.shape.tokens, num_tokens)
        return self._cache_bytes[num_tokens]

    def run_plain(self, request: Request) -> Run:
        """Run one request, stream by stream."""
        started = self._start()
        num_steps = generate_plainly(self._plain, self.shape.tokens, request)
        return self._run(self._since(started), num_steps, num_steps * request.num_tokens)

    def time_case(self, case: Case, *, budget_s: float, num_repeats: int) -> CaseTiming:
        """Time a case with as many steps as fit the budget, all repeats together.

        A warm-up run of the fewest steps comes first and says how long a step takes. If even the fewest steps do not
        fit, there is one repeat.
        """
        few, few_plainly = (build(case.min_steps(), self.device) for build in (case.build, case.build_plain))
        began_s = time.perf_counter()
        step_s = (self.run_engine(few).seconds + self.run_plain(few_plainly).seconds) / case.min_steps()
        left_s = budget_s - (time.perf_counter() - began_s)
        num_steps = case.steps_within(left_s / num_repeats, step_s)
        if num_repeats * num_steps * step_s > left_s and num_steps == case.min_steps():
            num_repeats = 1
        requests, plain_request = (build(num_steps, self.device) for build in (case.build, case.build_plain))
        engine_runs, plain_runs = [], []
        for _ in range(num_repeats):
            engine_runs.append(self.run_engine(requests))
            plain_runs.append(self.run_plain(plain_request))
        return CaseTiming(steps_measured=num_steps, engine_runs=engine_runs, plain_runs=plain_runs)

    def _start(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()

    def _since(self, started: tuple[float, float]) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - started[0], time.process_time() - started[1]

    def _run(self, elapsed: tuple[float, float], num_steps: int, num_tokens: int) -> Run:
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None
        seconds, process_s = elapsed
        return Run(
            seconds=seconds, process_s=process_s, num_steps=num_steps, num_tokens=num_tokens, peak_memory_bytes=peak
        )
