"""Numbers of a run for Prometheus, exported through Ray's own metrics; the dashboard in ``grafana/`` shows them.

Ray puts ``ray_`` before each name, and serves them on every node's metrics port where ``ray[default]`` is installed.
"""

from dataclasses import dataclass
from typing import Any

from jobs.progress.state import ProgressState

_RUN_TAG, _WORKER_TAG, _CLASS_TAG = "run", "worker", "failure_class"


@dataclass(frozen=True, slots=True)
class MetricName:
    """One exported number: all are gauges, set to what the driver knows; ``tag`` distinguishes several of a run."""

    name: str
    meaning: str
    tag: str | None = None


METRICS = (
    MetricName("dimoo_batch_rows", "rows of the manifest"),
    MetricName("dimoo_batch_rows_settled", "finished rows, committed or not"),
    MetricName("dimoo_batch_rows_committed", "rows that are committed"),
    MetricName("dimoo_batch_rows_failed", "committed rows that failed"),
    MetricName("dimoo_batch_failures", "rows of this start that failed, by class", _CLASS_TAG),
    MetricName("dimoo_batch_rows_per_second", "rows finished per second since the first worker was ready"),
    MetricName("dimoo_batch_tokens", "tokens that went through the transformers"),
    MetricName("dimoo_batch_tokens_per_step", "mean tokens of a step: how full batches are"),
    MetricName("dimoo_batch_steps", "steps of all engines"),
    MetricName(
        "dimoo_batch_cache_hit_ratio", "share of the steps' tokens that an earlier step had computed, in [0, 1]"
    ),
    MetricName("dimoo_batch_cost_usd", "cost of the workers, if worker_hour_usd is set"),
    MetricName("dimoo_batch_engine_busy_ratio", "share of time in which engines worked, in [0, 1]"),
    MetricName("dimoo_batch_worker_busy_ratio", "the same for one worker", _WORKER_TAG),
    MetricName("dimoo_batch_worker_rows", "rows that one worker finished", _WORKER_TAG),
    MetricName("dimoo_batch_workers_ready", "workers whose model is loaded"),
    MetricName("dimoo_batch_workers_lost", "workers that died and were replaced"),
    MetricName("dimoo_batch_eta_seconds", "estimated time remaining, at the rate so far"),
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
        values = {
            "rows": state.num_rows,
            "rows_settled": state.num_completed,
            "rows_committed": state.num_committed,
            "rows_failed": state.num_failed,
            "rows_per_second": state.rows_per_s,
            "tokens": state.num_tokens,
            "tokens_per_step": state.tokens_per_step,
            "steps": state.num_steps,
            "cache_hit_ratio": state.cache_hit_ratio,
            "cost_usd": state.cost_usd,
            "engine_busy_ratio": state.engine_busy_ratio,
            "workers_ready": state.num_ready,
            "workers_lost": state.num_lost,
            "eta_seconds": state.eta_s,
        }
        for name, value in values.items():
            if value is not None:
                self._set(name, value)
        for failure_class, count in state.failures.items():
            self._set("failures", count, failure_class=failure_class)
        for worker in state.worker_notes():
            self._set("worker_rows", worker["rows"], worker=worker["name"])
            if (busy := worker["engine_busy_ratio"]) is not None:
                self._set("worker_busy_ratio", busy, worker=worker["name"])

    def _set(self, name: str, value: float, **tags: str) -> None:
        self._gauges[f"dimoo_batch_{name}"].set(float(value), tags={_RUN_TAG: self._run, **tags})
