"""The type of a run's weights: what was asked for, what the run has begun with, or what fits; and whether that fits."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from jobs.run.workers import Workers
from jobs.spec.spec import JobSpec
from pipeline.manifest import ManifestSource
from pipeline.output.directory import RunDirectory
from pipeline.protocol.settings import RunSettings

if TYPE_CHECKING:
    from dimoo_core.checkpoint.check import CheckedCheckpoint

_CHOSEN = ("float32", "bfloat16")


def with_recorded_dtype(settings: RunSettings, spec: JobSpec, run: RunDirectory) -> RunSettings:
    """The settings with the type that the run has begun with, if none is asked for: memory is not to change it.

    A type that is never chosen here was asked for then, and has to be asked for again.
    """
    recorded = (run.description() or {}).get("results", {})
    is_same_device = recorded.get("device") == settings.device.partition(":")[0]
    if spec.dtype != "auto" or not is_same_device or recorded.get("dtype") not in _CHOSEN:
        return settings
    return replace(settings, dtype=recorded["dtype"])


def with_memory(
    settings: RunSettings,
    spec: JobSpec,
    found: "CheckedCheckpoint",
    source: ManifestSource,
    local: Workers | None,
    say: Callable[[str], None],
    *,
    is_begun: bool,
) -> RunSettings:
    """The settings with a type that fits on this machine; what only workers can see is left for them to check.

    Args:
        settings: Of the run, with its type as it was asked for or recorded.
        spec: As a person wrote it.
        found: Its model.
        source: Its manifest.
        local: Its workers, if they are on this machine.
        say: Told which type was chosen.
        is_begun: Whether the run has a type already.

    Raises:
        ConfigError: It does not fit.
    """
    from jobs.run.run_memory import check_run_memory, first_rows, memory_of_rows

    num_rows = source.num_rows if spec.limit is None else min(spec.limit, source.num_rows)
    need = memory_of_rows(settings, found, first_rows(source, settings, spec.limit), num_rows)
    if local is not None:
        need = check_run_memory(need, local, is_auto=spec.dtype == "auto", is_recorded=is_begun, say=say)
    left_to_workers = need if local is None or not need.is_on_host else None
    return replace(settings, dtype=need.dtype, memory=left_to_workers, is_dtype_fixed=is_begun)
