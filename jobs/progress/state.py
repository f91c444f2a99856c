"""Progress of a run: counts kept from the events of its workers, and how certain the remaining time is."""

import math
import time
from collections import Counter, deque
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from jobs.text import duration, pluralize
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import (
    Event,
    SegmentCommitted,
    SegmentRepeated,
    WorkerDied,
    WorkerDrained,
    WorkerProgress,
    WorkerReady,
)

_INTERVAL_S = 5.0
_MAX_POINTS = 61
_MIN_RATES = 5  # before these the spread is that of the beginning, not of the run
_STANDARD_ERRORS = 2.0


def error_of_count(num_rows: int) -> float:
    """How far a rate may be off, by that rate, of which no more is known than how many rows it is of."""
    return _STANDARD_ERRORS / math.sqrt(num_rows)


class RateRecord:
    """Rows finished over time, a point every five seconds; the latest sixty intervals count."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque(maxlen=_MAX_POINTS)

    def is_due(self) -> bool:
        """Whether the time of the next point has come."""
        return not self._points or time.monotonic() - self._points[-1][0] >= _INTERVAL_S

    def take(self, num_completed: int) -> None:
        """So many rows are finished now, when a point is due."""
        self._points.append((time.monotonic(), num_completed))

    @property
    def relative_error(self) -> float | None:
        """Twice the standard error of the mean rate, by that rate; None while there are too few intervals."""
        points = list(self._points)
        rates = [(rows - before) / (at - then) for (then, before), (at, rows) in pairwise(points)]
        if len(rates) < _MIN_RATES or sum(rates) <= 0:
            return None
        return _STANDARD_ERRORS * stdev(rates) / math.sqrt(len(rates)) / fmean(rates)


_NUM_LATEST = 8
_MIN_RATE_ROWS, _MIN_RATE_S = 3, 10.0  # before, a rate is that of the first rows, not of the others


class ProgressState:
    """Counts that a display shows, kept from the workers' events; ``worker_hour_usd`` is what a worker's hour costs."""

    def __init__(
        self,
        *,
        num_rows: int,
        num_resumed: int,
        num_workers: int,
        num_resumed_failed: int,
        worker_hour_usd: float | None = None,
    ) -> None:
        self.num_rows = num_rows
        self.num_resumed = num_resumed
        self.num_workers = num_workers
        self.num_lost = 0
        self.num_committed = num_resumed
        self.num_failed = num_resumed_failed
        self.failures: Counter[str] = Counter()  # of this start, by their class
        self._ready: set[str] = set()
        self._of_worker: dict[str, WorkerProgress] = {}
        self._committed_by: dict[str, RunTotals] = {}
        self._first_row_s: float | None = None
        self._rates = RateRecord()
        self._heard_s: dict[str, float] = {}
        self._started_s = time.monotonic()
        self._worker_hour_usd = worker_hour_usd
        self._latest_images: list[str] = []  # the newest first

    def take(self, name: str, event: Event) -> None:
        """Count an event in."""
        self._heard_s[name] = time.monotonic()
        match event:
            case WorkerReady():
                self._ready.add(name)
                self._first_row_s = self._first_row_s or time.monotonic()
            case WorkerProgress():
                self._of_worker[name] = event
                if self._rates.is_due():  # to count asks every worker's count, too much for each event of a thousand
                    self._rates.take(self.num_completed)
                if event.latest_image is not None and event.latest_image not in self._latest_images:
                    self._latest_images = [event.latest_image, *self._latest_images][:_NUM_LATEST]
            case SegmentCommitted(_, totals, failures):
                self.failures.update(dict(failures))
                self.num_committed += totals.num_done + totals.num_failed
                self.num_failed += totals.num_failed
                self._committed_by[name] = self._committed_by.get(name, RunTotals()) + totals
            case SegmentRepeated(_, totals):
                self._committed_by[name] = self._committed_by.get(name, RunTotals()) + totals
            case WorkerDied():
                self.num_lost += 1
                self._ready.discard(name)
                self._committed_by.pop(name, None)
                self._of_worker.pop(name, None)
                self._heard_s.pop(name, None)
            case WorkerDrained():  # what it computed counts, rows that it has not committed are ahead of others now
                if progress := self._of_worker.get(name):
                    self._committed_by[name] = RunTotals(progress.num_done, progress.num_failed)
                self._ready.discard(name)
                self._heard_s.pop(name, None)
            case _:
                pass

    @property
    def num_ready(self) -> int:
        """Workers that have their model loaded."""
        return len(self._ready)

    @property
    def num_completed(self) -> int:
        """Rows with a result, committed or on their way."""
        return min(self.num_rows, self.num_committed + sum(done + failed for done, failed in self._ahead()))

    @property
    def num_completed_failed(self) -> int:
        """Those of them that have failed; ``num_failed`` are the committed ones alone."""
        return min(self.num_rows, self.num_failed + sum(failed for _, failed in self._ahead()))

    def _ahead(self) -> Iterator[tuple[int, int]]:
        """Rows of each worker that are done, and that have failed, and are not committed."""
        for name, progress in self._of_worker.items():
            committed = self._committed_by.get(name, RunTotals())
            rows = progress.num_done + progress.num_failed - committed.num_done - committed.num_failed
            failed = min(max(0, progress.num_failed - committed.num_failed), max(0, rows))
            yield max(0, rows) - failed, failed

    @property
    def rows_per_s(self) -> float:
        """Rows finished in this start, by the time since the first worker was ready."""
        return self._num_new / self._elapsed_s if self._elapsed_s > 0 else 0.0

    @property
    def _num_new(self) -> int:
        return self.num_completed - self.num_resumed

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._first_row_s if self._first_row_s else 0.0

    @property
    def num_tokens(self) -> int:
        """Tokens that went through the transformers."""
        return sum(progress.num_tokens for progress in self._of_worker.values())

    @property
    def cache_hit_ratio(self) -> float | None:
        """Share of the tokens of all steps that were not computed since an earlier step had; None before the first."""
        num_reused = sum(progress.num_tokens_reused for progress in self._of_worker.values())
        return num_reused / (num_reused + self.num_tokens) if self.num_tokens else None

    @property
    def cost_usd(self) -> float | None:
        """What the workers have cost since this start, loading their models included; None without a price."""
        if self._worker_hour_usd is None:
            return None
        return self._worker_hour_usd * self.num_workers * (time.monotonic() - self._started_s) / 3600

    def latest_images(self) -> tuple[str, ...]:
        """Keys of images that were stored last, the newest first: a few, and not of every row."""
        return tuple(self._latest_images)

    @property
    def num_steps(self) -> int:
        """Steps of all engines."""
        return sum(progress.num_steps for progress in self._of_worker.values())

    @property
    def engine_busy_s(self) -> float:
        """Time in which engines worked, added up."""
        return sum(progress.engine_busy_s for progress in self._of_worker.values())

    @property
    def engine_busy_ratio(self) -> float | None:
        """Share of time in which engines worked, between their first and last step."""
        return _busy_ratio(self.engine_busy_s, sum(progress.engine_span_s for progress in self._of_worker.values()))

    @property
    def engine_wait_ratio(self) -> float | None:
        """Share of the same time in which engines had nothing to do."""
        progresses = self._of_worker.values()
        return _busy_ratio(sum(p.engine_waited_s for p in progresses), sum(p.engine_span_s for p in progresses))

    def worker_notes(self) -> list[dict[str, Any]]:
        """Each live worker: its state, the rows that it finished, its last heartbeat."""
        now_s = time.monotonic()
        return [self._worker_note(name, now_s - heard_s) for name, heard_s in sorted(self._heard_s.items())]

    def _worker_note(self, name: str, heard_s_ago: float) -> dict[str, Any]:
        progress = self._of_worker.get(name)
        return {
            "name": name,
            "state": "at work" if name in self._ready else "loading the model",
            "rows": progress.num_done + progress.num_failed if progress else 0,
            "engine_busy_ratio": _busy_ratio(progress.engine_busy_s, progress.engine_span_s) if progress else None,
            "heard_s_ago": round(heard_s_ago, 1),
        }

    @property
    def tokens_per_s(self) -> float:
        """Tokens by the time since the first worker was ready."""
        return self.num_tokens / self._elapsed_s if self._elapsed_s > 0 else 0.0

    @property
    def tokens_per_step(self) -> float:
        """Mean tokens of a step: how full batches are; 0 before the first."""
        return self.num_tokens / self.num_steps if self.num_steps else 0.0

    @property
    def eta_s(self) -> float | None:
        """Time until every row is finished, at the rate so far; None while a rate is of too few rows or seconds."""
        if self._num_new < _MIN_RATE_ROWS or self._elapsed_s < _MIN_RATE_S:
            return None
        return (self.num_rows - self.num_completed) / self.rows_per_s

    @property
    def eta_error_s(self) -> float | None:
        """How far ``eta_s`` may be off either way, by how unevenly rows were finished, at first by how few they are."""
        if self.eta_s is None:
            return None
        error = self._rates.relative_error
        return self.eta_s * (error if error is not None else error_of_count(self._num_new))

    @property
    def eta_words(self) -> str | None:
        """``1:02:03 ± 0:40``; None while that is not known, and when no row is left."""
        if self.eta_s is None or self.eta_error_s is None or self.num_completed == self.num_rows:
            return None
        return f"{duration(self.eta_s)} ± {duration(self.eta_error_s)}"

    def line(self) -> str:
        """The state in words."""
        settled, failed, rate = self.num_completed, self.num_completed_failed, self.rows_per_s
        if rate == 0:
            doing = "computing" if self.num_ready else "loading the model"
            return f"{settled}/{self.num_rows} rows, {pluralize(self.num_workers, 'worker')} {doing}"
        lost = f", {pluralize(self.num_lost, 'worker')} lost and replaced" if self.num_lost else ""
        eta = f", ETA {self.eta_words}" if self.eta_words else ""
        return f"{settled}/{self.num_rows} rows, {failed} failed, {rate:.2f} rows/s{eta}{lost}"


def _busy_ratio(busy_s: float, span_s: float) -> float | None:
    return min(1.0, busy_s / span_s) if span_s > 0 else None
