"""Finding the LoRA adapter of a job, and refusing one that does not fit before a worker is started."""

from dimoo_core.checkpoint import Checkpoint, find_checkpoint
from dimoo_core.errors import WeightsError
from jobs.spec import JobSpec


def with_found_adapter(spec: JobSpec, checkpoint: Checkpoint) -> JobSpec:
    """The spec with its adapter by the name that every worker and every resume finds it by.

    Args:
        spec: As a person wrote it.
        checkpoint: What the adapter is for.

    Raises:
        WeightsError: There is no such adapter, or it does not fit the checkpoint.
    """
    if spec.adapter is None:
        return spec
    from dimoo_core.adapter import read_adapter
    from dimoo_core.config import read_model_config
    from dimoo_core.weights import expected_shapes

    try:
        adapter = find_checkpoint(spec.adapter)
        read_adapter(adapter.directory, expected_shapes(read_model_config(checkpoint.directory / "config.json")))
    except WeightsError as error:
        raise WeightsError(f"adapter: {error}") from error
    return spec.model_copy(update={"adapter": adapter.name})
