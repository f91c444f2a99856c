"""Settings of a worker that decide how rows are run, not what comes out: the same for a run and for a retry."""

from typing import Any

from dimoo_core.engine_config import BatchInvariance, EngineConfig
from jobs.spec import JobSpec
from pipeline.flush_policy import FlushPolicy


def settings_of_work(spec: JobSpec, batch_invariance: BatchInvariance) -> dict[str, Any]:
    """Fields of ``RunSettings``; of the engine only ``batch_invariance`` decides results, so it is given apart."""
    engine = dict(spec.engine) | {"batch_invariance": batch_invariance}
    return {
        "sources": spec.sources.policy(),
        "engine": EngineConfig(**engine, max_request_s=spec.failures.row_timeout_s),
        "max_rows_in_flight": spec.pipeline.max_rows_in_flight,
        "fetch_threads": spec.pipeline.fetch_threads,
        "store_threads": spec.pipeline.store_threads,
        "failures": spec.failures.policy(),
        "life": spec.worker_life.life(),
        "flush": FlushPolicy(rows=spec.pipeline.flush_rows, seconds=spec.pipeline.flush_s),
    }
