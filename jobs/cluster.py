"""Connecting to Ray: an existing cluster by its address, or one of this machine's own for the time of the run."""

import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from dimoo_core.errors import ConfigError

_OBJECT_STORE_BYTES = 80 * 2**20  # Ray's least: nothing large passes through it


@contextmanager
def ray_cluster(address: str | None, *, num_workers: int) -> Iterator[int]:
    """Connect, and disconnect at the end; yields the number of GPUs.

    Raises:
        ConfigError: If no cluster answers at ``address``.
    """
    # Without GPUs an actor keeps CUDA_VISIBLE_DEVICES as it is: the behaviour Ray is moving to, chosen to silence it.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    on_terminate = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own deprecations at import
        import ray
    if ray.is_initialized():
        raise ConfigError("this process is connected to Ray already: a run makes its own connection")
    try:
        _init(address, num_workers)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # ray.init puts its own in place, which exits without a word
        yield int(ray.cluster_resources().get("GPU", 0))
    finally:
        ray.shutdown()


def _init(address: str | None, num_workers: int) -> None:
    import ray

    if address is None:
        ray.init(
            num_cpus=max(os.cpu_count() or 1, num_workers),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="error",
        )
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"ray.address: no Ray cluster at {address!r}: {reason}") from error
