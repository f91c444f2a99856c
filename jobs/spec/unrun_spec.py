"""What a job spec means where nothing is run: the defaults of its rows, without fetching a checkpoint."""

from pathlib import Path

from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from jobs.spec.generation_defaults import with_generation_defaults
from jobs.spec.spec import JobSpec
from manifests.row.settings import RowDefaults


def resolved_spec(spec: JobSpec) -> JobSpec:
    """The spec with the defaults of its checkpoint, where that is on this machine; a hub id is taken to have none.

    Raises:
        ConfigError: A value of the spec is out of range.
        WeightsError: The checkpoint's own defaults are wrong.
    """
    if spec.model == BUILTIN or Path(spec.model).expanduser().is_dir():
        return with_generation_defaults(spec, find_checkpoint(spec.model).directory)
    return spec


def row_defaults_of(spec: JobSpec) -> RowDefaults:
    """What its rows take from the job.

    Raises:
        ConfigError, WeightsError: As ``resolved_spec``.
    """
    return resolved_spec(spec).row_defaults()
