"""How many workers a command has, what each of them gets, and the pool that they make."""

import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dimoo_core.errors import ConfigError
from jobs.run.cluster import cores_each, known_address, ray_cluster
from jobs.spec.spec import JobSpec
from pipeline.driver.pool import WorkerPool
from pipeline.output.poison_segments import PoisonRecord
from pipeline.protocol.settings import RunSettings

log = logging.getLogger("dimoo_batch.jobs")

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of NVIDIA's driver, AMD's, and Windows' own Linux


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers there are and what each has."""

    count: int
    device: str
    num_cpus: float
    num_gpus: float


def idle_workers(spec: JobSpec, recorded_device: str) -> Workers:
    """Those of a start that has nothing to do: Ray is neither asked nor started, the device is that of the run."""
    return Workers(spec.workers or 0, spec.device if spec.device != "auto" else recorded_device, 0, 0)


def local_workers(spec: JobSpec) -> Workers | None:
    """Those that ``find_workers`` will find on this machine alone, before Ray is started; None if a cluster is joined.

    What each of them has is not known yet.
    """
    count, device = spec.workers, spec.device
    if count != 0 and known_address(spec.ray.address) is not None:
        return None
    count = _local_gpus() if count is None else count
    return Workers(count, device if device != "auto" else ("cuda" if _local_gpus() else "cpu"), 0, 0)


def find_workers(spec: JobSpec, stack: ExitStack) -> Workers:
    """Decide how many workers there are, starting or joining Ray if there is any.

    Args:
        spec: What is asked for.
        stack: Ends the connection to Ray.

    Raises:
        ConfigError: More GPUs are asked for than there are.
    """
    count, address = spec.workers, known_address(spec.ray.address)
    if count is None and address is None:
        count = _local_gpus()
    if count == 0:
        device = spec.device if spec.device != "auto" else ("cuda" if _local_gpus() else "cpu")
        return Workers(0, device, 0, 0)
    many = f"{count or 1} workers" if (count or 1) > 1 else "1 worker"
    log.info(f"starting Ray with {many}" if address is None else f"connecting to Ray at {address}")
    num_gpus = stack.enter_context(ray_cluster(address, num_workers=count or 1))
    count = count or max(1, num_gpus)
    device = spec.device if spec.device != "auto" else ("cuda" if num_gpus else "cpu")
    gpus_each = spec.ray.gpus_per_worker if spec.ray.gpus_per_worker is not None else float(device.startswith("cuda"))
    if gpus_each * count > num_gpus:
        raise ConfigError(f"{count} workers with {gpus_each:g} GPU each were asked for, Ray has {num_gpus} GPUs")
    return Workers(count, device, spec.ray.cpus_per_worker or cores_each(count, gpus_each), gpus_each)


def worker_pool(
    settings: RunSettings, workers: Workers, record: PoisonRecord, *, has_poison_segments: bool
) -> WorkerPool:
    """The pool of these workers, not yet started."""
    if (
        workers.count == 0 and has_poison_segments
    ):  # a row that kills its worker must not take the run with it once more
        from pipeline.driver.process_pool import ChildPool

        return ChildPool(settings)
    if workers.count == 0:
        from pipeline.driver.local_pool import LocalPool

        return LocalPool(settings, record)
    from pipeline.driver.ray_pool import RayPool

    return RayPool(settings, num_workers=workers.count, num_cpus=workers.num_cpus, num_gpus=workers.num_gpus)


def _local_gpus() -> int:
    if sys.platform == "linux" and not any(Path(device).exists() for device in _GPU_DEVICES):
        return 0  # known without torch, which is 200 MB that a driver of workers has no other use for
    import torch

    return torch.cuda.device_count()
