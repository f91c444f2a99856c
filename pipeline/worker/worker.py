"""The loop of one worker: a model, its engine, and who feeds it and carries its results away.

One thread steps the engine and nothing else. A feeder thread reads leased segments; fetch threads turn rows into flows
with their first requests; store threads decode and store results and commit complete segments.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from dimoo_core.checkpoint.load import load_model
from dimoo_core.checkpoint.locate import find_checkpoint
from dimoo_core.engine.engine import Engine
from dimoo_core.errors import ENDS_THE_PROCESS
from dimoo_core.memory.check import check_memory
from dimoo_core.request.request import Request, Result
from pipeline.errors import WorkerUnfit
from pipeline.images.inputs import ignore_pillow_warnings
from pipeline.output.directory import RunDirectory
from pipeline.output.epoch import HEARTBEAT_INTERVAL_S, Fence
from pipeline.output.poison_segments import PoisonRecord
from pipeline.protocol.messages import (
    Event,
    LeaseQueue,
    WorkerDrained,
    WorkerDraining,
    WorkerEnded,
    WorkerFailed,
    WorkerProgress,
    WorkerReady,
)
from pipeline.protocol.settings import RunSettings
from pipeline.rows.failure import RowBoundary
from pipeline.rows.flow import RowFlow
from pipeline.rows.postprocess import Postprocessor
from pipeline.rows.preprocess import Preprocessor
from pipeline.rows.row_hooks import RowHooks
from pipeline.storage.errors import StoreError
from pipeline.storage.reader import open_store
from pipeline.storage.retry import RetryPolicy
from pipeline.worker.commit import SegmentCommitter
from pipeline.worker.output import FedRow, OutputStage
from pipeline.worker.prefetch import IsolatedRows, RowPrefetcher
from pipeline.worker.segment import OpenSegment
from pipeline.worker.threads import WorkerThreads


class EngineClock:
    """Adds up steps, and waits for work between steps; whatever else is between two steps is the loop's own time.

    Waits before the first step are start-up, those after the last one are the end of the work: neither counts. One
    thread owns it; others may read.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._first_s: float | None = None
        self._last_s = 0.0
        self._wait_s = 0.0  # since the last step
        self.busy_s = 0.0
        self.waited_s = 0.0
        self.is_stepping = False

    @property
    def span_s(self) -> float:
        """From the first step's begin to the latest step's end; 0 before the first has ended."""
        return self._last_s - self._first_s if self._first_s is not None and self._last_s else 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """One step of the engine; a step that raises stays open."""
        started_s = self._now()
        if self._first_s is None:
            self._first_s = started_s
        else:
            self.waited_s += self._wait_s
        self._wait_s = 0.0
        self.is_stepping = True
        yield
        self.is_stepping = False
        self._last_s = self._now()
        self.busy_s += self._last_s - started_s

    @contextmanager
    def wait(self) -> Iterator[None]:
        """A wait with nothing for the engine to do."""
        started_s = self._now()
        try:
            yield
        finally:
            self._wait_s += self._now() - started_s


_IDLE_WAIT_S = 0.05
_PROGRESS_INTERVAL_S = 0.5


class Worker:
    """Runs leases on one model until there are none left. ``run`` may be called once; ``emit`` by several threads."""

    def __init__(self, settings: RunSettings, emit: Callable[[Event], None]) -> None:
        self._settings = settings
        self._emit = emit
        self._threads = WorkerThreads(settings.pipeline.fetch_threads, settings.pipeline.store_threads)
        self._is_drained = False
        self._engine_clock = EngineClock()
        self._in_engine: dict[str, FedRow] = {}  # by request
        self._process = psutil.Process()

    def stop(self) -> None:
        """Ask ``run`` to return soon: rows in flight are given up, what is committed stays."""
        self._threads.stop.set()

    def drain(self, deadline_s: float | None = None) -> None:
        """Ask ``run`` to return early, gracefully; may be called from a signal handler.

        Without a deadline the open segments are finished first. With one the engine continues, for half of that time,
        with the rows that it has begun; what has left it is stored and committed.
        """
        self._threads.shutdown.request(deadline_s)
        self._emit(WorkerDraining())

    def commit_held(self) -> None:
        """Commit what is held back for a streak of failures: no more rows can show whose fault it is."""
        self._threads.store(self._committer.release)

    def run(self, leases: LeaseQueue) -> None:
        """Load the model and work until the queue ends, ``stop`` is called or ``drain`` has done its work.

        Whatever keeps the worker from continuing is emitted as ``WorkerFailed``, not raised.
        """
        threads = self._threads
        threads.guarded(self._load)
        if not threads.stop.is_set():
            threads.guarded(self._work, leases)
        if threads.fatal is not None and not self._is_drained:
            is_of_rows = self._engine_clock.is_stepping and not isinstance(threads.fatal, WorkerUnfit)
            flows = self._in_engine.values() if is_of_rows else ()
            self._emit(WorkerFailed(threads.fatal, tuple(dict.fromkeys(flow.row.id for _, flow in flows))))
        self._emit(WorkerEnded())

    def _load(self) -> None:
        started_s = time.monotonic()
        ignore_pillow_warnings()
        settings, threads, policy = self._settings, self._threads, self._settings.failures
        hooks = RowHooks(settings.results.hooks, settings.results.defaults)
        directory = find_checkpoint(settings.model).directory
        adapter = find_checkpoint(settings.adapter).directory if settings.adapter is not None else None
        if settings.memory is not None:
            check_memory(settings.memory, may_change_dtype=not settings.is_dtype_fixed)
        model = load_model(directory, device=settings.results.device, dtype=settings.results.dtype, adapter=adapter)
        self._run_directory = RunDirectory(open_store(settings.output_uri))
        self._fence = Fence(self._run_directory.store, settings.epoch)
        with_output = RetryPolicy(threads.stop, on_try=threads.clock.tick)
        poison_segments = PoisonRecord(self._run_directory.store, with_output)
        self._committer = SegmentCommitter(
            settings, self._run_directory, self._fence, poison_segments, with_output, self._emit
        )
        with_inputs = RetryPolicy(
            threads.stop,
            first_wait_s=policy.first_wait_s,
            max_wait_s=policy.max_wait_s,
            max_tries=policy.tries.store,
            on_try=threads.clock.tick,
        )
        boundary = RowBoundary()
        preprocessor = Preprocessor(model, settings, with_inputs)
        postprocessor = Postprocessor(
            model, settings, self._run_directory, with_output, hooks, preprocessor.inputs.fetch
        )
        self._output_stage = OutputStage(
            threads, postprocessor, self._committer, boundary, has_hooks=hooks.look_at_results
        )
        isolated_rows = IsolatedRows(poison_segments, policy)
        self._prefetcher = RowPrefetcher(
            threads,
            hooks,
            preprocessor,
            isolated_rows,
            self._run_directory,
            with_output,
            self._committer,
            self._output_stage,
            boundary,
        )
        self._engine = Engine(
            model.transformer, model.tokens, settings.engine, max_request_s=settings.failures.row_timeout_s
        )
        self._emit(WorkerReady(time.monotonic() - started_s))

    def _work(self, leases: LeaseQueue) -> None:
        threads = self._threads
        prefetcher = threads.start("feed", self._prefetcher.run, leases)
        threads.start("fence", self._watch_fence)
        threads.guarded(self._step_until_done, prefetcher)
        if threads.shutdown.is_requested and not threads.stop.is_set():
            threads.guarded(self._finish_what_left_the_engine)
        threads.end()
        prefetcher.join()
        self._prefetcher.close()
        self._run_directory.store.close()
        if not self._is_drained:
            self._emit_progress()

    def _finish_what_left_the_engine(self) -> None:
        """Store and commit it, wait for no input any more, and report that the rest is handed back."""
        self._threads.finish_results()
        self._committer.partials.flush_all()
        self._emit_progress()
        self._is_drained = self._threads.fatal is None
        if self._is_drained:
            self._emit(WorkerDrained())

    def _watch_fence(self) -> None:
        """Stop a worker whose driver was superseded even if it has nothing to commit."""
        while not self._threads.stop.wait(2 * HEARTBEAT_INTERVAL_S):
            with suppress(StoreError):  # a commit is retried
                self._fence.check()

    def _step_until_done(self, prefetcher: threading.Thread) -> None:
        next_progress_s, shutdown = 0.0, self._threads.shutdown
        while not self._threads.stop.is_set():
            if not shutdown.has_deadline:
                self._admit()
            else:
                self._abort()
                if not self._engine.num_unfinished or not shutdown.has_time_for_steps:
                    return
            if self._engine.num_unfinished:
                self._output_stage.take(self._hand_out(self._step()))
            elif not prefetcher.is_alive():
                if self._committer.num_open_segments == 0:
                    return
                if self._committer.num_open_segments == self._committer.streaks.num_held:
                    self._threads.store(self._committer.release)
            if time.monotonic() >= next_progress_s:
                self._emit_progress()
                for segment in self._committer.partials.due_segments():
                    self._threads.store(self._committer.partials.flush_due, segment)
                next_progress_s = time.monotonic() + _PROGRESS_INTERVAL_S

    def _admit(self) -> None:
        """Move prepared rows into the engine; wait for one only if the engine has nothing to do."""
        if self._engine.num_unfinished:
            fed = self._prefetcher.ready()
        else:
            with self._engine_clock.wait():
                fed = self._prefetcher.ready(_IDLE_WAIT_S)
        for segment, flow in fed:
            self._enter(segment, flow, flow.first_requests)
            if flow.is_over:
                self._output_stage.take([(segment, flow)])

    def _abort(self) -> None:
        """Take rows back that the engine has not begun, for want of room: others will run them."""
        waiting = self._engine.queued()
        begun = {id(flow) for request_id, (_, flow) in self._in_engine.items() if request_id not in waiting}
        for request_id in waiting:
            _, flow = self._in_engine[request_id]
            if id(flow) not in begun and not flow.has_results:
                del self._in_engine[request_id]
                self._engine.abort(request_id)

    def _enter(self, segment: OpenSegment, flow: RowFlow, requests: tuple[Request, ...]) -> None:
        try:
            for request in requests:
                self._engine.submit(request)
                self._in_engine[request.request_id] = (segment, flow)
        except ENDS_THE_PROCESS:
            raise
        except BaseException as error:
            flow.fail(error)

    def _step(self) -> list[Result]:
        with self._engine_clock.step():
            return self._engine.step()

    def _hand_out(self, results: list[Result]) -> list[FedRow]:
        """Give rows their results and the engine what they ask for next; returns the rows that this ends."""
        ended: list[FedRow] = []
        for result in results:
            segment, flow = self._in_engine.pop(result.request_id)
            if not flow.is_over:
                self._enter(segment, flow, flow.take(result))
                ended += [(segment, flow)] if flow.is_over else []
        return ended

    def _emit_progress(self) -> None:
        stats, clock = self._engine.stats, self._engine_clock
        self._emit(
            WorkerProgress(
                num_done=self._committer.num_done,
                num_failed=self._committer.num_failed,
                num_steps=stats.num_steps,
                num_tokens=stats.num_tokens,
                engine_busy_s=clock.busy_s,
                engine_waited_s=clock.waited_s,
                engine_span_s=clock.span_s,
                silence_s=self._threads.clock.silence_s,
                memory_bytes=self._process.memory_info().rss,
                num_tokens_reused=stats.num_tokens_reused,
                latest_image=self._committer.latest_image,
                failing=self._committer.streaks.streak,
            )
        )
