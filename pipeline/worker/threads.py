"""The threads of one worker: pools that its rows pass through, one boundary for what any of them raises, a watchdog.

The watchdog's timestamp shows how long the oldest piece of work has made no progress.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from dimoo_core.errors import DimooError
from manifests.redact import redact_text
from pipeline.errors import RunFailed
from pipeline.protocol.shutdown import ShutdownRequest


class WatchdogClock:
    """Threads report when they begin, end, and in between when they make progress."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard_s: dict[int, float] = {}  # by thread; each changes its own entry only

    @contextmanager
    def work(self) -> Iterator[None]:
        """The block is one piece of work of this thread."""
        thread = threading.get_ident()
        self._heard_s[thread] = self._clock()
        try:
            yield
        finally:
            self._heard_s.pop(thread, None)

    def tick(self) -> None:
        """A heartbeat of this thread while its work is not done: it retries a request to a store, for example."""
        thread = threading.get_ident()
        if thread in self._heard_s:
            self._heard_s[thread] = self._clock()

    @property
    def silence_s(self) -> float:
        """Seconds since the oldest of the threads' last heartbeats; 0 if none is at work."""
        return max(0.0, self._clock() - min(list(self._heard_s.values()), default=self._clock()))


class WorkerThreads:
    """Where a worker's work is done beside the engine's thread. May be used from all of them.

    Work that is handed over when the pools are closing is dropped: the run is being stopped or drained.

    Attributes:
        stop: Set when every thread is to end soon, whatever it holds.
        shutdown: Requested when they are to end gracefully.
        clock: Gets their heartbeats.
        fatal: What the first of them that failed has raised.
    """

    def __init__(self, num_fetching: int, num_storing: int) -> None:
        self.stop = threading.Event()
        self.shutdown = ShutdownRequest()
        self.clock = WatchdogClock()
        self.fatal: DimooError | None = None
        self._fatal_lock = threading.Lock()
        self._fetch_pool = ThreadPoolExecutor(num_fetching, "fetch")
        self._codec_pool = ThreadPoolExecutor(1, "codec")
        self._store_pool = ThreadPoolExecutor(num_storing, "store")

    @property
    def takes_no_rows(self) -> bool:
        """Whether rows that the engine has not got are left to others."""
        return self.stop.is_set() or self.shutdown.has_deadline

    def start(self, name: str, work: Callable[..., None], *args: object) -> threading.Thread:
        """Do something long on a thread of its own, which does not keep the process from ending."""
        thread = threading.Thread(target=self.guarded, args=(work, *args), name=name, daemon=True)
        thread.start()
        return thread

    def fetch(self, work: Callable[..., None], *args: object) -> None:
        """Do something before the engine."""
        self._submit(self._fetch_pool, work, *args)

    def codec(self, work: Callable[..., None], *args: object) -> None:
        """Do something after the engine, one at a time."""
        self._submit(self._codec_pool, work, *args)

    def store(self, work: Callable[..., None], *args: object) -> None:
        """Do something that ends at the store."""
        self._submit(self._store_pool, work, *args)

    def guarded(self, work: Callable[..., None], *args: object) -> None:
        """The worker's boundary: what ``work`` raises, on whatever thread, ends the run instead of vanishing.

        What concerns one row only does not get here: ``RowBoundary``.
        """
        try:
            work(*args)
        except BaseException as error:  # a thread of a pool would keep it to itself
            words = redact_text(f"{type(error).__name__}: {' '.join(str(error).split())}")
            ours = error if isinstance(error, DimooError) else RunFailed(words)
            with self._fatal_lock:
                self.fatal = self.fatal or ours
            self.stop.set()

    def finish_results(self) -> None:
        """Wait until everything that has left the engine is stored; no input is waited for."""
        self._fetch_pool.shutdown(wait=False, cancel_futures=True)
        self._codec_pool.shutdown()  # before the pool that it hands its products to
        self._store_pool.shutdown()

    def end(self) -> None:
        """Drop what has not begun and wait for the rest."""
        self.stop.set()
        for pool in (self._fetch_pool, self._codec_pool, self._store_pool):
            pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[..., None], *args: object) -> None:
        try:
            pool.submit(self._timed, work, *args)
        except RuntimeError:  # the pool is closing
            if not self.stop.is_set() and not self.shutdown.is_requested:
                raise

    def _timed(self, work: Callable[..., None], *args: object) -> None:
        with self.clock.work():
            self.guarded(work, *args)
