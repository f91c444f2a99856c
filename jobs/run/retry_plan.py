"""Which failed rows of a run a retry runs again, and the spec that follows from its options and from the run."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dimoo_core.errors import ConfigError
from jobs.run.identity import SECTIONS
from jobs.spec.spec import JobSpec, load_spec
from manifests.errors import FAILURE_CLASSES, FailureClass
from manifests.files.plan import Segment
from pipeline.output.failures import QUARANTINED
from pipeline.output.parts import CommittedSegments
from pipeline.output.results import PartSummary
from pipeline.output.retries import SegmentRetry

DEFAULT_CLASSES: tuple[FailureClass, ...] = ("timeout", "oom", "engine", "store", "crash")
"""Failures that another attempt may fix; the others stay until their row, image or permission is fixed."""


def chosen_classes(names: tuple[str, ...]) -> tuple[FailureClass, ...]:
    """The classes that a person named, in their usual order; none named means those worth a try."""
    if not names:
        return DEFAULT_CLASSES
    if unknown := [name for name in names if name not in (*FAILURE_CLASSES, "all")]:
        known = ", ".join((*FAILURE_CLASSES, "all"))
        raise ConfigError(f"--class must be one of {known}, got {', '.join(map(repr, unknown))}")
    return tuple(name for name in FAILURE_CLASSES if name in names or "all" in names)


@dataclass(slots=True)
class Backlog:
    """What one retry has to do. Memory grows with the segments that have something to do, not with the others.

    Attributes:
        classes: Failures of these are tried again.
        isolated_segments: Those of them in which a row has killed its workers, so that its rows are run one at a time.
        chosen: Failures that are tried again, by their class.
        kept: Failures that are not asked for, by their class.
        failed_again: Those that an earlier start of this retry has run again, by their class.
    """

    number: int
    classes: tuple[FailureClass, ...]
    committed: CommittedSegments
    retries: dict[str, SegmentRetry] = field(default_factory=dict)
    isolated_segments: list[str] = field(default_factory=list)
    chosen: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    failed_again: Counter[str] = field(default_factory=Counter)

    def look(self, segment: Segment, summary: PartSummary) -> None:
        """Take a segment's failures in."""
        of_class = Counter(failure.failure_class for failure in summary.failures)
        self.kept.update({name: count for name, count in of_class.items() if name not in self.classes})
        chosen = {name: count for name, count in of_class.items() if name in self.classes}
        if summary.retry == self.number:  # an earlier start of this retry was here
            self.failed_again.update(chosen)
            return
        if not chosen:
            return
        self.chosen.update(chosen)
        after = self.committed.last_part(segment.name).retry
        self.retries[segment.name] = SegmentRetry(self.number, self.classes, after, sum(chosen.values()))
        if any(each.error_type == QUARANTINED and each.failure_class in self.classes for each in summary.failures):
            self.isolated_segments.append(segment.name)

    def segments(self) -> Iterator[Segment]:
        """Those with something to do, in row order."""
        plan = self.committed.plan
        return (plan.segment(index) for name in self.retries if (index := plan.number_of(name)) is not None)

    def __contains__(self, segment_name: object) -> bool:
        """Whether nothing is to be done for a segment: it is committed and has no failure that is tried again."""
        return segment_name in self.committed and segment_name not in self.retries

    def words(self) -> str:
        """What is tried again and what is not, for people."""
        kept = "".join(f", {count} {name}" for name, count in sorted(self.kept.items()))
        flags = " ".join(f"--class {name}" for name in sorted(self.kept))
        left = f"; not retried: {kept[2:]} ({flags})" if kept else ""
        if not self.chosen:
            return f"nothing to retry: no failed rows of classes {', '.join(self.classes)}{left}"
        tried = ", ".join(f"{count} {name}" for name, count in sorted(self.chosen.items()))
        return f"retry {self.number} of classes {', '.join(self.classes)}: {tried}{left}"


_OWN_KEYS = (*SECTIONS, "ray", "device", "worker_hour_usd")
_RECORDED_KEYS = ("engine.batch_invariance", "engine.compile", "pipeline.segment_rows")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """The options of a retry; everything else is taken from the run.

    Attributes:
        classes: Names of failure classes; empty: those worth a try.
        manifest, model: Where they are now, if not where the run found them.
        workers: As for a run.
        overrides: ``key=value`` of what decides how the rows are run, not what comes out.
        accepted: What of the run may have changed, as ``--accept-change`` of a run.
    """

    classes: tuple[str, ...] = ()
    manifest: str | None = None
    model: str | None = None
    workers: int | None = None
    overrides: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()

    def job_spec(self, description: Mapping[str, Any]) -> JobSpec:
        """The run's own execution settings, with the options given now."""
        for override in self.overrides:
            key = override.partition("=")[0]
            if key.partition(".")[0] not in _OWN_KEYS or key in _RECORDED_KEYS:
                raise ConfigError(
                    f"--set {key}: a retry cannot change the settings of the run, only keys of {', '.join(_OWN_KEYS)}"
                )
        job: Mapping[str, Any] = description.get("job", {})
        recorded = {name: job[name] for name in (*SECTIONS, "passthrough", "worker_hour_usd") if name in job}
        if "failures" in recorded:  # the limit was meant for all rows of the run
            recorded["failures"] = recorded["failures"] | {"max_failures": None}
        flags = {
            "manifest": self.manifest or str(description["manifest"]),
            "model": self.model or str(description["model"]),
            "adapter": job.get("adapter"),
            "limit": description["results"].get("limit"),
            "workers": self.workers,
        }
        return load_spec(None, flags | recorded, self.overrides)
