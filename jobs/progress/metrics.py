"""Numbers of a run for Prometheus, exported through Ray's own metrics; the dashboard in ``grafana/`` shows them.

Ray puts ``ray_`` before each name, and serves them on every node's metrics port where ``ray[default]`` is installed.
"""

from dataclasses import dataclass
from typing import Any

from jobs.progress.state import ProgressState

_RUN_TAG, _WORKER_TAG, _CLASS_TAG = "run", "worker", "failure_class"


@dataclass(frozen=True, slots=True)
class Metric:
    """One exported number, a gauge: the state's attribute ``source``, or one for each value of ``tag``."""

    name: str
    meaning: str
    source: str | None = None
    tag: str | None = None


METRICS = (
    Metric("dimoo_batch_rows", "rows of the manifest", "num_rows"),
    Metric("dimoo_batch_rows_settled", "finished rows, committed or not", "num_completed"),
    Metric("dimoo_batch_rows_committed", "rows that are committed", "num_committed"),
    Metric("dimoo_batch_rows_failed", "committed rows that failed", "num_failed"),
    Metric("dimoo_batch_failures", "rows of this start that failed, by class", tag=_CLASS_TAG),
    Metric("dimoo_batch_rows_per_second", "rows finished per second since the first worker was ready", "rows_per_s"),
    Metric("dimoo_batch_tokens", "tokens that went through the transformers", "num_tokens"),
    Metric("dimoo_batch_tokens_per_step", "mean tokens of a step: how full batches are", "tokens_per_step"),
    Metric("dimoo_batch_steps", "steps of all engines", "num_steps"),
    Metric(
        "dimoo_batch_cache_hit_ratio",
        "share of the steps' tokens that an earlier step had computed, in [0, 1]",
        "cache_hit_ratio",
    ),
    Metric("dimoo_batch_cost_usd", "cost of the workers, if worker_hour_usd is set", "cost_usd"),
    Metric("dimoo_batch_engine_busy_ratio", "share of time in which engines worked, in [0, 1]", "engine_busy_ratio"),
    Metric("dimoo_batch_worker_busy_ratio", "the same for one worker", tag=_WORKER_TAG),
    Metric("dimoo_batch_worker_rows", "rows that one worker finished", tag=_WORKER_TAG),
    Metric("dimoo_batch_workers_ready", "workers whose model is loaded", "num_ready"),
    Metric("dimoo_batch_workers_lost", "workers that died and were replaced", "num_lost"),
    Metric("dimoo_batch_eta_seconds", "estimated time remaining, at the rate so far", "eta_s"),
)
"""Everything that is exported."""


class MetricsExport:
    """Sets the gauges of one run, known by its output. Made by a process that is connected to Ray."""

    def __init__(self, run: str, state: ProgressState) -> None:
        from ray.util.metrics import Gauge

        self._run = run
        self._state = state
        self._gauges: dict[str, Any] = {
            metric.name: Gauge(
                metric.name,
                description=metric.meaning,
                tag_keys=(_RUN_TAG, *((metric.tag,) if metric.tag else ())),
            )
            for metric in METRICS
        }

    def refresh(self) -> None:
        """Set every gauge to what is so now."""
        state = self._state
        for metric in METRICS:
            if metric.source is not None:
                self._set(metric.name, getattr(state, metric.source))
        for failure_class, count in state.failures.items():
            self._set("dimoo_batch_failures", count, failure_class=failure_class)
        for worker in state.worker_notes():
            self._set("dimoo_batch_worker_rows", worker["rows"], worker=worker["name"])
            self._set("dimoo_batch_worker_busy_ratio", worker["engine_busy_ratio"], worker=worker["name"])

    def _set(self, name: str, value: float | None, **tags: str) -> None:
        if value is not None:
            self._gauges[name].set(float(value), tags={_RUN_TAG: self._run, **tags})
