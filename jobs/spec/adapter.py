"""Finding the LoRA adapter of a job, and refusing files that a worker could not load before one is started."""

from pathlib import Path

from dimoo_core.checkpoint.check import CheckedCheckpoint, check_checkpoint
from dimoo_core.checkpoint.locate import find_checkpoint
from dimoo_core.errors import WeightsError
from dimoo_core.memory.check import check_mapping
from jobs.spec.spec import JobSpec


def with_found_adapter(spec: JobSpec) -> JobSpec:
    """The spec with its adapter by the name that every worker and every resume finds it by.

    Args:
        spec: As a person wrote it.

    Raises:
        WeightsError: There is no such adapter.
    """
    if spec.adapter is None:
        return spec
    try:
        adapter = find_checkpoint(spec.adapter)
    except WeightsError as error:
        raise WeightsError(f"adapter: {error}") from error
    return spec.model_copy(update={"adapter": adapter.name})


def check_model(directory: Path, adapter: str | None) -> CheckedCheckpoint:
    """Check a checkpoint and the adapter of that name, which has been found before.

    Raises:
        WeightsError: A worker could not load them.
        ConfigError: This process may not have as much address space as their files take.
    """
    sizes = {path: path.stat().st_size for path in directory.glob("*.safetensors") if path.is_file()}
    if sizes:
        check_mapping(max(sizes, key=sizes.__getitem__))
    return check_checkpoint(directory, adapter=None if adapter is None else find_checkpoint(adapter).directory)
