"""The loop of one worker: a model, its engine, and threads that feed it and carry its results away.

One thread steps the engine and nothing else. A feeder thread reads leased segments; fetch threads turn rows into
flows with their first requests; store threads decode and store results and commit complete segments. Credits bound
how many rows are in hand, so memory does not grow with the manifest.
"""

import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import psutil
from PIL import Image
from torch import Tensor

from dimoo_core.checkpoint import find_checkpoint
from dimoo_core.engine import Engine
from dimoo_core.errors import DimooError
from dimoo_core.model import load_model
from dimoo_core.request import Request, Result, TextResult
from manifests.public_text import public_text
from manifests.reader import SegmentReader
from manifests.row import Row, RowFailure
from pipeline.draft import Drafts
from pipeline.draft_keeper import DraftKeeper
from pipeline.engine_clock import EngineClock
from pipeline.epoch import BEAT_INTERVAL_S, Fence
from pipeline.errors import RunFailed, StoreError
from pipeline.event import (
    Event,
    SegmentCommitted,
    WorkerDrained,
    WorkerDraining,
    WorkerEnded,
    WorkerFailed,
    WorkerProgress,
    WorkerReady,
)
from pipeline.fetch import ignore_pillow_warnings
from pipeline.finish import RowFinisher
from pipeline.lease import Lease, LeaseQueue
from pipeline.lone_row import LoneRows
from pipeline.notice import StopNotice
from pipeline.object_reader import ObjectReader
from pipeline.open_segment import OpenSegment
from pipeline.outcome import Outcome, PartSummary, RowDone, RunTotals, part_bytes
from pipeline.part_name import PartName
from pipeline.prepare import RowPreparer, row_failure
from pipeline.raw_row import RawRow
from pipeline.retry import Patience
from pipeline.row_flow import FittedImage, MadeImages, RowFlow, WeighedAnswer
from pipeline.row_hooks import RowHooks
from pipeline.run_directory import RunDirectory
from pipeline.run_settings import RunSettings
from pipeline.store import open_store
from pipeline.suspect import SuspectRecord
from pipeline.uri import folder_of
from pipeline.work_clock import WorkClock

_IDLE_WAIT_S = 0.05
_PROGRESS_INTERVAL_S = 0.5

_MAX_CODEC_ROWS = 64  # whose images are taken through the codec before the next ones are looked for

CodecWork = tuple[OpenSegment, Row, MadeImages | FittedImage]
"""Images of a row that are to go through the codec, and where they belong."""


class Worker:
    """Runs leases on one model until there are none left. ``run`` may be called once.

    Args:
        settings: What to do.
        emit: Called from several threads with what happens.
    """

    def __init__(self, settings: RunSettings, emit: Callable[[Event], None]) -> None:
        self._settings = settings
        self._emit = emit
        self._stop = threading.Event()
        self._notice = StopNotice()
        self._is_drained = False
        self._fatal: DimooError | None = None
        self._fatal_lock = threading.Lock()
        self._engine_clock = EngineClock()
        self._credits = threading.Semaphore(settings.max_rows_in_flight)
        self._ready: queue.SimpleQueue[tuple[OpenSegment, RowFlow]] = queue.SimpleQueue()
        self._for_codec: queue.SimpleQueue[CodecWork] = queue.SimpleQueue()
        self._in_engine: dict[str, tuple[OpenSegment, RowFlow]] = {}  # by request
        self._clock = WorkClock()
        self._patience = Patience(self._stop, on_try=self._clock.tick)
        self._objects = ObjectReader()
        self._process = psutil.Process()
        self._counts_lock = threading.Lock()
        self._num_open_segments = 0
        self._num_done = 0
        self._num_failed = 0

    def stop(self) -> None:
        """Ask ``run`` to return soon: rows in hand are given up, what is committed stays."""
        self._stop.set()

    def drain(self, deadline_s: float | None = None) -> None:
        """Ask ``run`` to return early in good order; may be called from a signal handler.

        Without a deadline the open segments are finished first. With one the engine goes on with its rows for
        half of that time; what has left it is stored and committed.
        """
        self._notice.give(deadline_s)
        self._emit(WorkerDraining())

    def run(self, leases: LeaseQueue) -> None:
        """Load the model and work until the queue ends, ``stop`` is called or ``drain`` has done its work.

        Whatever keeps the worker from going on is emitted as ``WorkerFailed``, not raised.
        """
        self._guarded(self._load)
        if not self._stop.is_set():
            self._guarded(self._work, leases)
        if self._fatal is not None and not self._is_drained:
            flows = self._in_engine.values() if self._engine_clock.is_stepping else ()
            self._emit(WorkerFailed(self._fatal, tuple(dict.fromkeys(flow.row.id for _, flow in flows))))
        self._emit(WorkerEnded())

    def _work(self, leases: LeaseQueue) -> None:
        self._fetch_pool = ThreadPoolExecutor(self._settings.fetch_threads, "fetch")
        self._store_pool = ThreadPoolExecutor(self._settings.store_threads, "store")
        self._codec_pool = ThreadPoolExecutor(1, "codec")
        feeder = threading.Thread(target=self._guarded, args=(self._feed, leases), name="feed", daemon=True)
        feeder.start()
        threading.Thread(target=self._guarded, args=(self._watch_fence,), name="fence", daemon=True).start()
        self._guarded(self._step_until_done, feeder)
        if self._notice.is_given and not self._stop.is_set():
            self._guarded(self._finish_what_left_the_engine)
        self._stop.set()
        for pool in (self._fetch_pool, self._codec_pool, self._store_pool):
            pool.shutdown(cancel_futures=True)
        feeder.join()
        for each in (self._preparer, self._objects, self._run_directory.store):
            each.close()
        if not self._is_drained:
            self._emit_progress()

    def _finish_what_left_the_engine(self) -> None:
        """Store and commit it, wait for no input any more, and say that the rest is handed back."""
        self._fetch_pool.shutdown(wait=False, cancel_futures=True)
        self._codec_pool.shutdown()  # before the pool that it hands its products to
        self._store_pool.shutdown()
        self._drafts.flush_all()
        self._emit_progress()
        self._is_drained = self._fatal is None
        if self._is_drained:
            self._emit(WorkerDrained())

    def _load(self) -> None:
        started_s = time.monotonic()
        ignore_pillow_warnings()
        settings = self._settings
        self._hooks = RowHooks(settings.hooks, settings.defaults)
        directory = find_checkpoint(settings.model).directory
        adapter = find_checkpoint(settings.adapter).directory if settings.adapter is not None else None
        model = load_model(directory, device=settings.device, dtype=settings.dtype, adapter=adapter)
        self._run_directory = RunDirectory(open_store(settings.output_uri))
        self._fence = Fence(self._run_directory.store, settings.epoch)
        self._suspects = SuspectRecord(self._run_directory.store, self._patience)
        drafts = Drafts(self._run_directory.store, self._patience)
        self._drafts = DraftKeeper(drafts, settings.flush, settings.settings_digest)
        self._lone_rows = LoneRows(self._suspects, settings.failures)
        policy = settings.failures
        patience = Patience(
            self._stop,
            first_wait_s=policy.first_wait_s,
            max_wait_s=policy.max_wait_s,
            max_tries=policy.store_tries,
            on_try=self._clock.tick,
        )
        self._preparer = RowPreparer(model, settings, patience)
        read_input = self._preparer.inputs.fetch
        self._finisher = RowFinisher(model, settings, self._run_directory, self._patience, self._hooks, read_input)
        self._engine = Engine(model.transformer, model.tokens, settings.engine)
        self._emit(WorkerReady(time.monotonic() - started_s))

    def _watch_fence(self) -> None:
        """Stop a worker whose driver was superseded even if it has nothing to commit."""
        while not self._stop.wait(2 * BEAT_INTERVAL_S):
            with suppress(StoreError):  # a commit asks again, with patience
                self._fence.check()

    def _feed(self, leases: LeaseQueue) -> None:
        """Read leased segments and hand their rows to the fetch threads, as far as credits go."""
        with SegmentReader(self._objects.open) as reader:
            while not self._stop.is_set() and not self._notice.is_given:
                try:
                    lease = leases.get(timeout=_IDLE_WAIT_S)
                except queue.Empty:
                    continue
                if lease is None:
                    return
                with self._clock.work():
                    segment = self._opened(lease, reader)
                    self._drafts.open(segment)
                with self._counts_lock:
                    self._num_open_segments += 1
                if segment.is_complete:
                    self._submit(self._store_pool, self._close_segment, segment)
                for item in self._hooks.rows(segment.rows, lease.segment.first_row):
                    if self._gives_up_feeding:
                        return
                    row = item.row if isinstance(item, RowFailure) else item.index
                    if segment.wants(row):
                        self._feed_row(segment, item)
                    while segment.wants(row) and lease.suspicion is not None and not self._gives_up_feeding:
                        if segment.wait_for(row, _IDLE_WAIT_S):
                            break

    @property
    def _gives_up_feeding(self) -> bool:
        return self._stop.is_set() or self._notice.is_hasty

    def _opened(self, lease: Lease, reader: SegmentReader) -> OpenSegment:
        rows = self._patience.retry(partial(reader.read, lease.segment))
        if lease.retry is None:
            return OpenSegment(lease, rows)
        last = PartName(lease.segment.name, lease.retry.after)
        return OpenSegment(lease, rows, self._patience.retry(partial(self._run_directory.summary, last)).failures)

    def _feed_row(self, segment: OpenSegment, item: Row | RawRow | RowFailure) -> None:
        while not self._credits.acquire(timeout=_IDLE_WAIT_S):
            if self._gives_up_feeding:
                return
        if not isinstance(item, RowFailure) and (first := segment.lease.repeats.get(item.index)) is not None:
            message = f"id {item.id!r} is that of row {first}: give each row its own id"
            item = RowFailure(item.index, item.id, "manifest", "ManifestRowError", message)
        if not isinstance(item, RowFailure) and segment.lease.suspicion is not None:
            item = self._lone_rows.admit(segment.lease, item)
        if isinstance(item, RowFailure):
            self._submit(self._store_pool, self._settle, segment, item)
        else:
            self._submit(self._fetch_pool, self._prepare, segment, item)

    def _prepare(self, segment: OpenSegment, given: Row | RawRow) -> None:
        if (done := self._drafts.adopted(segment, given.index)) is not None:
            self._settle(segment, done)
            return
        row = self._hooks.before(given) if isinstance(given, RawRow) else given
        folder = folder_of(segment.segment.file_uri)
        prepared = row if isinstance(row, RowFailure) else self._preparer.prepare(row, folder)
        if isinstance(prepared, RowFailure):
            self._settle(segment, prepared)
        elif prepared.is_over:
            self._carry_away([(segment, prepared)])
        else:
            self._ready.put((segment, prepared))

    def _step_until_done(self, feeder: threading.Thread) -> None:
        next_progress_s = 0.0
        while not self._stop.is_set():
            if not self._notice.is_hasty:
                self._admit()
            elif not self._engine.num_unfinished or not self._notice.has_time_for_steps:
                return
            if self._engine.num_unfinished:
                self._carry_away(self._hand_out(self._step()))
            elif not feeder.is_alive() and self._num_open_segments == 0:
                return
            if time.monotonic() >= next_progress_s:
                self._emit_progress()
                for segment in self._drafts.due_segments():
                    self._submit(self._store_pool, self._drafts.flush_due, segment)
                next_progress_s = time.monotonic() + _PROGRESS_INTERVAL_S

    def _admit(self) -> None:
        """Move prepared rows into the engine; wait for one only if the engine has nothing to do."""
        with suppress(queue.Empty):
            segment, flow = self._ready.get_nowait() if self._engine.num_unfinished else self._wait_for_row()
            while True:
                self._enter(segment, flow, flow.first_requests)
                segment, flow = self._ready.get_nowait()

    def _wait_for_row(self) -> tuple[OpenSegment, RowFlow]:
        with self._engine_clock.wait():
            return self._ready.get(timeout=_IDLE_WAIT_S)

    def _enter(self, segment: OpenSegment, flow: RowFlow, requests: tuple[Request, ...]) -> None:
        for request in requests:
            self._in_engine[request.request_id] = (segment, flow)
            self._engine.submit(request)

    def _step(self) -> list[Result]:
        with self._engine_clock.step():
            return self._engine.step()

    def _hand_out(self, results: list[Result]) -> list[tuple[OpenSegment, RowFlow]]:
        """Give rows their results and the engine what they ask for next; returns the rows that this ends."""
        ended: list[tuple[OpenSegment, RowFlow]] = []
        for result in results:
            segment, flow = self._in_engine.pop(result.request_id)
            if not flow.is_over:
                self._enter(segment, flow, flow.take(result))
                ended += [(segment, flow)] if flow.is_over else []
        return ended

    def _carry_away(self, ended: list[tuple[OpenSegment, RowFlow]]) -> None:
        for segment, flow in ended:
            if flow.error is not None:
                self._submit(self._store_pool, self._settle, segment, row_failure(flow.row, "generate", flow.error))
            elif isinstance(flow.result, TextResult | WeighedAnswer):
                self._submit(self._store_pool, self._finish_text, segment, flow.row, flow.result)
            else:
                assert flow.result is not None  # it is over without an error
                self._for_codec.put((segment, flow.row, flow.result))
                self._submit(self._codec_pool, self._run_codec)

    def _run_codec(self) -> None:
        """Take through the codec together what has come meanwhile, from the engine or straight from the manifest.

        Asked for once a row, so that none is left; finds nothing where an earlier turn took several.
        """
        works: list[CodecWork] = []
        with suppress(queue.Empty):
            while len(works) < _MAX_CODEC_ROWS:
                works.append(self._for_codec.get_nowait())
        products = self._finisher.through_codec([result for *_, result in works])
        for (segment, row, result), product in zip(works, products, strict=True):
            if isinstance(product, Tensor):
                self._submit(self._store_pool, self._finish_codes, segment, row, product)
            else:
                assert isinstance(result, MadeImages)
                self._submit(self._store_pool, self._finish_images, segment, row, result, product)

    def _finish_codes(self, segment: OpenSegment, row: Row, codes_HW: Tensor) -> None:
        self._settle(segment, self._finisher.finish_codes(row, segment, codes_HW))

    def _finish_images(self, segment: OpenSegment, row: Row, made: MadeImages, images: list[Image.Image]) -> None:
        self._settle(segment, self._finisher.finish_images(row, segment, made, images))

    def _finish_text(self, segment: OpenSegment, row: Row, result: TextResult | WeighedAnswer) -> None:
        if isinstance(result, TextResult):
            self._settle(segment, self._finisher.finish_text(row, segment, result))
        else:
            self._settle(segment, self._finisher.finish_weighed(row, segment, result))

    def _settle(self, segment: OpenSegment, outcome: Outcome) -> None:
        """Record an outcome, give its credit back, and commit the segment if it was the last."""
        is_complete = segment.add(outcome)
        self._credits.release()
        with self._counts_lock:
            self._num_done += isinstance(outcome, RowDone)
            self._num_failed += isinstance(outcome, RowFailure)
        if is_complete:
            self._close_segment(segment)
        elif isinstance(outcome, RowDone):
            self._drafts.note(segment, outcome)

    def _close_segment(self, segment: OpenSegment) -> None:
        self._commit(segment)
        self._drafts.close(segment)
        with self._counts_lock:
            self._num_open_segments -= 1

    def _commit(self, open_segment: OpenSegment) -> None:
        segment, outcomes, retry = open_segment.segment, open_segment.outcomes(), open_segment.lease.retry
        failures = tuple(outcome for outcome in outcomes if isinstance(outcome, RowFailure))
        part = part_bytes(
            outcomes,
            open_segment.rows,
            segment.first_row,
            writer=uuid.uuid4().hex,
            run=self._settings.run_digest,
            expected_rows=open_segment.expected_rows,
            retry=retry.number if retry is not None else 0,
            score_columns=self._settings.hooks.score_columns,
        )
        summary = PartSummary(len(outcomes) - len(failures), failures)
        self._patience.retry(self._fence.check)
        standing = self._patience.retry(partial(self._run_directory.commit, open_segment.part, part, summary))
        if open_segment.lease.suspicion is not None:
            self._suspects.clear(segment.name)
        by_class = Counter(failure.failure_class for failure in failures)
        totals = RunTotals(standing.num_done, max(0, len(standing.failures) - open_segment.num_kept))
        self._emit(SegmentCommitted(segment.name, totals, tuple(by_class.items())))

    def _emit_progress(self) -> None:
        stats = self._engine.stats
        self._emit(
            WorkerProgress(
                num_done=self._num_done,
                num_failed=self._num_failed,
                num_steps=stats.num_steps,
                num_tokens=stats.num_tokens,
                engine_busy_s=self._engine_clock.busy_s,
                engine_waited_s=self._engine_clock.waited_s,
                engine_span_s=self._engine_clock.span_s,
                silence_s=self._clock.silence_s,
                memory_bytes=self._process.memory_info().rss,
            )
        )

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[..., None], *args: object) -> None:
        try:
            pool.submit(self._guarded, self._clock.work()(work), *args)
        except RuntimeError:  # the pool is closing: the run is being stopped, or drained
            if not self._stop.is_set() and not self._notice.is_given:
                raise

    def _guarded(self, work: Callable[..., None], *args: object) -> None:
        """The worker's boundary: what ``work`` raises, on whatever thread, ends the run instead of vanishing."""
        try:
            work(*args)
        except Exception as error:
            words = public_text(f"{type(error).__name__}: {' '.join(str(error).split())}")
            ours = error if isinstance(error, DimooError) else RunFailed(words)
            with self._fatal_lock:
                self._fatal = self._fatal or ours
            self._stop.set()
