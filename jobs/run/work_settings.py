"""Settings of a worker that decide how rows are run, not what comes out: the same for a run and for a retry."""

from typing import Any

from dimoo_core.settings import BatchInvariance, EngineConfig
from jobs.spec.spec import JobSpec
from pipeline.protocol.settings import FlushPolicy


def settings_of_work(spec: JobSpec, *, batch_invariance: BatchInvariance, compile: bool) -> dict[str, Any]:
    """Fields of ``RunSettings``; what of the engine decides results is given apart, a retry has it from its run."""
    engine = dict(spec.engine) | {"batch_invariance": batch_invariance, "compile": compile}
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
