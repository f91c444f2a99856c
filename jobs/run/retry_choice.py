"""What a person says about a retry, and the spec that follows from it and from the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dimoo_core.errors import ConfigError
from jobs.run.recorded_run import SECTIONS
from jobs.spec.spec import JobSpec, load_spec

_OWN_KEYS = (*SECTIONS, "ray", "device", "worker_hour_usd")
_RECORDED_KEYS = ("engine.batch_invariance", "engine.compile", "pipeline.segment_rows")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryChoice:
    """What a person says about a retry; everything else is taken from the run.

    Attributes:
        classes: Names of failure classes; empty: those worth a try.
        manifest, model: Where they lie now, if not where the run found them.
        workers: As for a run.
        assignments: ``key=value`` of what decides how the rows are run, not what comes out.
        accepted: What of the run may have changed, as ``--accept-change`` of a run.
    """

    classes: tuple[str, ...] = ()
    manifest: str | None = None
    model: str | None = None
    workers: int | None = None
    assignments: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()

    def job_spec(self, description: Mapping[str, Any]) -> JobSpec:
        """The run's own way of working, with what a person asks for now.

        Raises:
            ConfigError: A key is unknown, or one that the run has decided.
        """
        for assignment in self.assignments:
            key = assignment.partition("=")[0]
            if key.partition(".")[0] not in _OWN_KEYS or key in _RECORDED_KEYS:
                raise ConfigError(
                    f"--set {key}: a retry keeps what the run has decided; it takes keys of {', '.join(_OWN_KEYS)}"
                )
        job: Mapping[str, Any] = description.get("job", {})
        recorded = {name: job[name] for name in (*SECTIONS, "passthrough", "worker_hour_usd") if name in job}
        if "failures" in recorded:
            recorded["failures"] = recorded["failures"] | {
                "max_failures": None
            }  # that was meant for all rows of the run
        flags = {
            "manifest": self.manifest or str(description["manifest"]),
            "model": self.model or str(description["model"]),
            "adapter": job.get("adapter"),
            "limit": description["results"].get("limit"),
            "workers": self.workers,
        }
        return load_spec(None, flags | recorded, self.assignments)
